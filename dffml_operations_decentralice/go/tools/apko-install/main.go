// Apko-install installs the packages of an apko lock file into a directory.
//
// It is `apko build` without the layer: that is compressed only to be unpacked again,
// which costs more than all the rest, and has lost the owners of what packages install.
//
//	apko-install CONFIG LOCK ROOT
//
// CONFIG is apko's configuration, LOCK what `apko lock` made of it, but for the URLs, which
// are the paths of verified packages without a suffix (see packages.go). ROOT must not exist.
package main

import (
	"archive/tar"
	"context"
	"fmt"
	"os"
	"strings"

	"chainguard.dev/apko/pkg/build"
	"chainguard.dev/apko/pkg/build/types"
	"chainguard.dev/apko/pkg/tarfs"
)

const repositories = "etc/apk/repositories"

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: apko-install CONFIG LOCK ROOT")
		os.Exit(2)
	}
	if err := install(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func install(ctx context.Context, config, lock, root string) error {
	image := tarfs.New()
	packages, err := newUnpacked(lock)
	if err != nil {
		return err
	}
	made, err := build.New(ctx, image,
		build.WithConfig(config, nil),
		build.WithLockFile(lock),
		build.WithArch(types.ParseArchitecture("x86_64")),
		build.WithOffline(true),
		build.WithoutDiskCache(),
		build.WithPackageGetter(packages),
	)
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
