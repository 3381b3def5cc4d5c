package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/licenseclassifier/v2/assets"
)

// text is that of a licence, as its authors publish it.
func text(t *testing.T, name, variant string) string {
	t.Helper()
	content, err := assets.ReadLicenseFile("License/" + name + "/" + variant)
	if err != nil {
		t.Fatal(err)
	}
	return "Copyright (c) 2020 The Authors\n\n" + string(content)
}

func TestLicenceOf(t *testing.T) {
	mit := text(t, "MIT", "pristine.txt")
	apache := text(t, "Apache-2.0", "pristine.txt")
	bsd := text(t, "BSD-3-Clause", "pristine.txt")
	dual := "This library is dual-licensed under either of Apache 2.0 or MIT terms."
	tagged := "<!--- SPDX-License-Identifier: Apache-2.0 OR MIT -->"
	for name, test := range map[string]struct {
		files    map[string]string
		expected string
		problem  string
	}{
		"one":         {files: map[string]string{"LICENSE": mit}, expected: "MIT"},
		"lower case":  {files: map[string]string{"license.md": mit}, expected: "MIT"},
		"British":     {files: map[string]string{"LICENCE.txt": bsd}, expected: "BSD-3-Clause"},
		"GNU's name":  {files: map[string]string{"COPYING": mit}, expected: "MIT"},
		"two in one":  {files: map[string]string{"LICENSE": apache + "\n---\n" + bsd}, expected: "Apache-2.0 AND BSD-3-Clause"},
		"one twice":   {files: map[string]string{"LICENSE": bsd + "\n---\n" + bsd}, expected: "BSD-3-Clause"},
		"both apply":  {files: map[string]string{"LICENSE": mit, "LICENSE-parser": bsd}, expected: "BSD-3-Clause AND MIT"},
		"a choice":    {files: map[string]string{"LICENSE": dual, "LICENSE-MIT": mit, "LICENSE-APACHE": apache}, expected: "Apache-2.0 OR MIT"},
		"a tag":       {files: map[string]string{"LICENSE.md": tagged}, expected: "Apache-2.0 OR MIT"},
		"tag and all": {files: map[string]string{"LICENSE.md": tagged, "COPYING": bsd}, expected: "(Apache-2.0 OR MIT) AND BSD-3-Clause"},
		"tag, texts":  {files: map[string]string{"LICENSE": tagged, "LICENSE-MIT": mit, "LICENSE-APACHE": apache}, expected: "Apache-2.0 OR MIT"},
		"no source":   {files: map[string]string{"LICENSE": mit, "license.go": "package a", "NOTICE": "b"}, expected: "MIT"},
		"none":        {files: map[string]string{"README.md": mit}, problem: "no licence file"},
		"empty":       {files: map[string]string{"LICENSE": ""}, problem: "LICENSE"},
		"unknown":     {files: map[string]string{"LICENSE": mit, "LICENSE-2": "Ask me first."}, problem: "LICENSE-2"},
		"only choice": {files: map[string]string{"LICENSE": dual}, problem: "no licence file"},
	} {
		t.Run(name, func(t *testing.T) {
			known, err := assets.DefaultClassifier()
			if err != nil {
				t.Fatal(err)
			}
			module := fstest.MapFS{}
			for path, content := range test.files {
				module[path] = &fstest.MapFile{Data: []byte(content)}
			}
			got, err := licenceOf(module, known)
			if test.problem != "" {
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Errorf("got %q, %v; want an error that says %q", got, err, test.problem)
				}
			} else if err != nil || got != test.expected {
				t.Errorf("got %q, %v; want %q", got, err, test.expected)
			}
		})
	}
}

const info = `{"Deps": [
	{"Path": "example.org/A/b", "Version": "v1.0.0"},
	{"Path": "example.org/c", "Version": "v1.0.0", "Replace": {"Path": "example.org/d", "Version": "v2.0.0+incompatible"}}
]}`

func TestRun(t *testing.T) {
	cache := t.TempDir()
	for folder, content := range map[string]string{
		"example.org/!a/b@v1.0.0":           text(t, "MIT", "pristine.txt"),
		"example.org/d@v2.0.0+incompatible": "Ask me first.",
	} {
		if err := os.MkdirAll(filepath.Join(cache, folder), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(cache, folder, "LICENSE"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out, log bytes.Buffer
	if err := run([]string{cache}, strings.NewReader(info), &out, &log); err != nil {
		t.Fatal(err)
	}
	var found map[string]string
	if err := json.Unmarshal(out.Bytes(), &found); err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 || found["example.org/A/b@v1.0.0"] != "MIT" || found["example.org/d@v2.0.0+incompatible"] != unknown {
		t.Errorf("found %v", found)
	}
	if !strings.Contains(log.String(), "example.org/d@v2.0.0+incompatible: no known licence in LICENSE") {
		t.Errorf("said %q", log.String())
	}
}

func TestRunRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		args    []string
		in      string
		problem string
	}{
		"no cache named":      {args: nil, in: info, problem: "usage"},
		"no JSON":             {args: []string{t.TempDir()}, in: "{", problem: "build information"},
		"module not in cache": {args: []string{t.TempDir()}, in: info, problem: "not in the cache"},
		"local replacement":   {args: []string{t.TempDir()}, in: `{"Deps": [{"Path": "../a", "Version": ""}]}`, problem: "../a"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, log bytes.Buffer
			err := run(test.args, strings.NewReader(test.in), &out, &log)
			if err == nil || !strings.Contains(err.Error(), test.problem) || out.Len() != 0 {
				t.Errorf("got %v and %q; want an error that says %q", err, out.String(), test.problem)
			}
		})
	}
}
