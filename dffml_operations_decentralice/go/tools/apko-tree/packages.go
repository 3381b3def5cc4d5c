package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1" // of apk's own making
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"sync"

	"chainguard.dev/apko/pkg/apk/apk"
	"chainguard.dev/apko/pkg/apk/expandapk"
	"chainguard.dev/apko/pkg/apk/expandapk/tarfs"
	"chainguard.dev/apko/pkg/lock"
)

// A package NAME.apk, verified and taken apart: its control part as it was, for the hash
// of this is the package's, and its data unpacked, so that nobody unpacks it again.
const (
	controlSuffix = ".control.tar.gz"
	dataSuffix    = ".data.tar"
	controlLimit  = 1 << 20
)

// unpacked gets packages from such files, and keeps what it was asked for.
type unpacked struct {
	sizes map[string]int64 // of each NAME.apk, which apk's database tells
	mutex sync.Mutex
	known map[string]*expandapk.APKExpanded
}

func newUnpacked(lockFile string) (*unpacked, error) {
	locked, err := lock.FromFile(lockFile)
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, one := range locked.Contents.Packages {
		var first, last int64
		if _, err := fmt.Sscanf(one.Data.Range, "bytes=%d-%d", &first, &last); err != nil {
			return nil, fmt.Errorf("range of %s in %s: %w", one.Name, lockFile, err)
		}
		sizes[one.URL] = last + 1
	}
	return &unpacked{sizes: sizes, known: map[string]*expandapk.APKExpanded{}}, nil
}

// GetPackage opens a package. https://wiki.alpinelinux.org/wiki/Apk_spec
func (u *unpacked) GetPackage(_ context.Context, wanted apk.InstallablePackage) (*expandapk.APKExpanded, error) {
	found := &expandapk.APKExpanded{
		ControlFile: wanted.URL() + controlSuffix,
		TarFile:     wanted.URL() + dataSuffix,
	}
	control, err := os.ReadFile(found.ControlFile)
	if err != nil {
		return nil, err
	}
	hash := sha1.Sum(control)
	if "Q1"+base64.StdEncoding.EncodeToString(hash[:]) != wanted.ChecksumString() {
		return nil, fmt.Errorf("package %q control hash mismatch", wanted.PackageName())
	}
	found.ControlHash = hash[:]
	if found.ControlFS, err = gunzipped(control); err != nil {
		return nil, err
	}
	data, err := os.Open(found.TarFile)
	if err != nil {
		return nil, err
	}
	info, err := data.Stat()
	if err != nil {
		return nil, err
	}
	found.Size = u.sizes[wanted.URL()]
	if found.TarFS, err = tarfs.New(data, info.Size()); err != nil {
		return nil, fmt.Errorf("%s: %w", found.TarFile, err)
	}
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.known[wanted.PackageName()] = found
	return found, nil
}

func gunzipped(packed []byte) (*tarfs.FS, error) {
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(reader, controlLimit))
	if err != nil {
		return nil, err
	}
	return tarfs.New(bytes.NewReader(content), int64(len(content)))
}

// headers lists what the packages have, in the order in which they were installed.
func (u *unpacked) headers(installed []*apk.InstalledPackage) []*tar.Header {
	var found []*tar.Header
	for _, one := range installed {
		if expanded := u.known[one.Name]; expanded != nil {
			for _, entry := range expanded.TarFS.Entries() {
				found = append(found, &entry.Header)
			}
		}
	}
	return found
}
