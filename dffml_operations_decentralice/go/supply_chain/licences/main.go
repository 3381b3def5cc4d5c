// Command licences tells under which licence each Go module of a program is.
//
//	licences GOMODCACHE < BUILDINFO
//
// BUILDINFO is what `go version -m -json` prints of the program. Printed is a JSON object:
// an SPDX expression by module@version, NOASSERTION where the licence files say nothing
// that is known; these are also named on standard error.
//
// https://spdx.github.io/spdx-spec/v2.3/SPDX-license-expressions/
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/google/licenseclassifier/v2/assets"
	"golang.org/x/mod/module"
)

const unknown = "NOASSERTION"

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out, log io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: licences GOMODCACHE < BUILDINFO")
	}
	var info debug.BuildInfo
	if err := json.NewDecoder(in).Decode(&info); err != nil {
		return fmt.Errorf("reading the build information: %w", err)
	}
	classifier, err := assets.DefaultClassifier()
	if err != nil {
		return fmt.Errorf("loading the known licences: %w", err)
	}
	found := map[string]string{}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		folder, err := folderOf(args[0], dep)
		if err != nil {
			return err
		}
		name := dep.Path + "@" + dep.Version
		found[name], err = licenceOf(os.DirFS(folder), classifier)
		if err != nil {
			found[name] = unknown
			fmt.Fprintf(log, "licences: %s: %v\n", name, err)
		}
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(found)
}

// folderOf is where the module cache has the files of a module.
func folderOf(cache string, dep *debug.Module) (string, error) {
	path, err := module.EscapePath(dep.Path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(dep.Version)
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, filepath.FromSlash(path)+"@"+version)
	if _, err := os.Stat(folder); err != nil {
		return "", fmt.Errorf("the module is not in the cache: %w", err)
	}
	return folder, nil
}
