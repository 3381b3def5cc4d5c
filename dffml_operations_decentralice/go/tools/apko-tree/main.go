// Apko-tree does with apko's own packages what `apko lock` and `apko build` do, but for what
// these do too much: the first fetches and unpacks every package, the second makes a
// compressed layer that is only unpacked again, and loses the owners of what is in it.
//
//	apko-tree resolve CONFIG
//	apko-tree install CONFIG LOCK ROOT
//
// CONFIG is apko's configuration. resolve reads the repositories' signed indexes and prints
// the packages as JSON lines. install makes the directory ROOT of verified packages: LOCK is
// a lock file of apko's, but for the URLs, which are paths without a suffix (packages.go).
//
// https://github.com/chainguard-dev/apko/blob/main/docs/apko_file.md
package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"chainguard.dev/apko/pkg/build"
	"chainguard.dev/apko/pkg/build/types"
	"chainguard.dev/apko/pkg/tarfs"
)

const repositories = "etc/apk/repositories"

var errUsage = errors.New("usage: apko-tree resolve CONFIG | install CONFIG LOCK ROOT")

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, words []string) error {
	switch {
	case len(words) == 2 && words[0] == "resolve":
		return resolve(ctx, words[1])
	case len(words) == 4 && words[0] == "install":
		return install(ctx, words[1], words[2], words[3])
	}
	return errUsage
}

// found is one line of what resolve prints.
type found struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	URL      string `json:"url"`
	Checksum string `json:"checksum"` // Q1 and base64 of the SHA-1 of the control part
	Size     uint64 `json:"size"`
}

func resolve(ctx context.Context, config string) error {
	made, err := build.New(ctx, tarfs.New(), options(config)...)
	if err != nil {
		return err
	}
	packages, _, err := made.BuildPackageList(ctx)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(os.Stdout)
	for _, one := range packages {
		line := found{one.Name, one.Version, one.URL(), one.ChecksumString(), one.Size}
		if err := lines.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

func options(config string) []build.Option {
	return []build.Option{
		build.WithConfig(config, nil),
		build.WithArch(types.ParseArchitecture("x86_64")),
		build.WithoutDiskCache(),
	}
}

func install(ctx context.Context, config, lock, root string) error {
	image := tarfs.New()
	packages, err := newUnpacked(lock)
	if err != nil {
		return err
	}
	made, err := build.New(ctx, image, append(options(config),
		build.WithLockFile(lock),
		build.WithOffline(true),
		build.WithPackageGetter(packages),
	)...)
	if err != nil {
		return err
	}
	if err := made.BuildImage(ctx); err != nil {
		return err
	}
	// As apko does behind BuildImage: the image updates from its own repositories
	lasting := made.ImageConfiguration().Contents.RuntimeOnlyRepositories
	text := strings.Join(lasting, "\n") + "\n"
	if err := image.WriteFile(repositories, []byte(text), 0o644); err != nil {
		return err
	}
	if err := write(image, root); err != nil {
		return err
	}
	installed, err := made.InstalledPackages()
	if err != nil {
		return err
	}
	return own(image, root, packages.headers(installed))
}

// special tells whether apko loses the owner or a bit of the mode of an entry.
func special(header *tar.Header) bool {
	foreign := header.Uid != 0 || header.Gid != 0 || !isRoot(header.Uname) || !isRoot(header.Gname)
	bits := header.Mode&0o7000 != 0
	return foreign || bits && (header.Typeflag == tar.TypeReg || header.Typeflag == tar.TypeDir)
}

func isRoot(name string) bool { return name == "" || name == "root" }
