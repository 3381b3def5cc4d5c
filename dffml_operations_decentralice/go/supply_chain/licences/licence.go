package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	classifier "github.com/google/licenseclassifier/v2"
)

var (
	// fileNames are those of licence files at the top of a module, but for Go sources.
	fileNames = regexp.MustCompile(`(?i)^(un)?(licen[cs]es?|copying)([-._].*)?$`)
	// tag is what the authors say by themselves: https://spdx.dev/learn/handling-license-info/
	tag = regexp.MustCompile(`SPDX-License-Identifier: *(` + id + `(?: (?:AND|OR|WITH) ` + id + `)*)`)
	// choice is said in files that tell which other files' licences one may choose from.
	choice = regexp.MustCompile(`(?i)\bdual[- ]licen[cs]ed\b|\beither of\b|\bat your option\b`)
)

const id = `[A-Za-z0-9][A-Za-z0-9.+-]*`

// licenceOf is the SPDX expression of a module's licence files: all of them apply, unless
// one says that they are a choice. Files which have but the texts of what another one's
// tag names add nothing to it.
func licenceOf(module fs.FS, known *classifier.Classifier) (string, error) {
	files, err := licenceFiles(module)
	if err != nil {
		return "", err
	}
	var tags, texts, silent []string
	operator := "AND"
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content := files[name]
		said := tag.FindSubmatch(content)
		names := licencesIn(content, known)
		switch {
		case said != nil:
			tags = append(tags, string(said[1]))
		case len(names) > 0:
			texts = append(texts, joined(names, "AND"))
		case choice.Match(content):
			operator = "OR"
		default:
			silent = append(silent, name)
		}
	}
	switch {
	case len(silent) > 0:
		return "", fmt.Errorf("no known licence in %s", strings.Join(silent, ", "))
	case len(tags)+len(texts) == 0:
		return "", errors.New("no licence file")
	}
	tagged := strings.Fields(strings.Join(tags, " "))
	texts = slices.DeleteFunc(texts, func(name string) bool { return slices.Contains(tagged, name) })
	if len(tags) == 0 {
		return joined(texts, operator), nil
	}
	return joined(append(tags, texts...), "AND"), nil
}

// licenceFiles are the contents of the licence files at the top of a module.
func licenceFiles(module fs.FS) (map[string][]byte, error) {
	entries, err := fs.ReadDir(module, ".")
	if err != nil {
		return nil, err
	}
	found := map[string][]byte{}
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || !fileNames.MatchString(name) || strings.HasSuffix(name, ".go") {
			continue
		}
		if found[name], err = fs.ReadFile(module, name); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// licencesIn are the licences whose texts, or notices that point to them, a file has.
func licencesIn(content []byte, known *classifier.Classifier) []string {
	var names []string
	for _, match := range known.Match(content).Matches {
		if match.MatchType == "License" || match.MatchType == "Header" {
			names = append(names, match.Name)
		}
	}
	return names
}

// joined is an expression of each term once, in order; terms which have an operator of
// their own are kept together.
func joined(terms []string, operator string) string {
	terms = slices.Clone(terms)
	slices.Sort(terms)
	terms = slices.Compact(terms)
	if len(terms) > 1 {
		for i, term := range terms {
			if strings.Contains(term, " ") {
				terms[i] = "(" + term + ")"
			}
		}
	}
	return strings.Join(terms, " "+operator+" ")
}
