package main

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"

	apkfs "chainguard.dev/apko/pkg/apk/fs"
	"chainguard.dev/apko/pkg/passwd"
)

// write makes a directory of an image, root's and without device nodes: the kernel makes
// its own, and only root could make these.
func write(image apkfs.FullFS, root string) error {
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	var folders []string
	err := fs.WalkDir(image, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeDevice != 0 {
			return nil
		}
		if info.IsDir() {
			folders = append(folders, path)
		}
		return writeOne(image, root, path, info)
	})
	// Behind what is in them, which would change their times, or be forbidden
	for _, path := range folders {
		if err == nil {
			err = finish(image, root, path)
		}
	}
	return err
}

func writeOne(image apkfs.FullFS, root, path string, info fs.FileInfo) error {
	target := filepath.Join(root, path)
	header, _ := info.Sys().(*tar.Header)
	switch {
	case info.IsDir():
		return os.Mkdir(target, 0o755)
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := image.Readlink(path)
		if err != nil {
			return err
		}
		if err := os.Symlink(to, target); err != nil {
			return err
		}
		return setTime(target, info.ModTime())
	case header != nil && header.Typeflag == tar.TypeLink:
		return os.Link(filepath.Join(root, header.Linkname), target)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is a %s, which is not supported", path, info.Mode().Type())
	}
	if err := copyFile(image, path, target); err != nil {
		return err
	}
	return finish(image, root, path)
}

func copyFile(image apkfs.FullFS, path, target string) error {
	from, err := image.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		return err
	}
	return to.Close()
}

// finish gives a file or directory its mode, extended attributes and time.
func finish(image apkfs.FullFS, root, path string) error {
	target := filepath.Join(root, path)
	info, err := image.Lstat(path)
	if err != nil {
		return err
	}
	if err := os.Chmod(target, info.Mode()); err != nil {
		return err
	}
	attributes, err := image.ListXattrs(path)
	if err != nil {
		return err
	}
	for name, value := range attributes {
		if err := unix.Lsetxattr(target, name, value, 0); err != nil {
			return fmt.Errorf("setting %s of %s: %w", name, path, err)
		}
	}
	return setTime(target, info.ModTime())
}

func setTime(target string, when time.Time) error {
	stamp := unix.NsecToTimespec(when.UnixNano())
	times := []unix.Timespec{stamp, stamp}
	return unix.UtimesNanoAt(unix.AT_FDCWD, target, times, unix.AT_SYMLINK_NOFOLLOW)
}

// own gives owners and special modes as the packages' archives have them. Names count
// before numbers, which packagers may leave at 0.
func own(image apkfs.FullFS, root string, headers []*tar.Header) error {
	users, groups := accounts(image)
	for _, header := range headers {
		if !special(header) {
			continue
		}
		path := filepath.Clean(header.Name) // of a directory, it ends in a slash
		folder, err := securejoin.SecureJoin(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		target := filepath.Join(folder, filepath.Base(path))
		info, err := os.Lstat(target)
		if os.IsNotExist(err) {
			continue
		} else if err != nil {
			return err
		}
		uid := number(users, header.Uname, header.Uid)
		gid := number(groups, header.Gname, header.Gid)
		if err := os.Lchown(target, uid, gid); err != nil {
			return err
		}
		// After the owner, which takes setuid and setgid away
		if info.Mode()&fs.ModeSymlink == 0 {
			if err := unix.Chmod(target, uint32(header.Mode&0o7777)); err != nil {
				return err
			}
		}
	}
	return nil
}

// accounts reads the numbers of the image's users and groups.
func accounts(image fs.FS) (users, groups map[string]int) {
	users, groups = map[string]int{}, map[string]int{}
	if file, err := passwd.ReadUserFile(image, "etc/passwd"); err == nil {
		for _, entry := range file.Entries {
			users[entry.UserName] = int(entry.UID)
		}
	}
	if file, err := passwd.ReadGroupFile(image, "etc/group"); err == nil {
		for _, entry := range file.Entries {
			groups[entry.GroupName] = int(entry.GID)
		}
	}
	return users, groups
}

func number(known map[string]int, name string, otherwise int) int {
	if found, ok := known[name]; ok {
		return found
	}
	return otherwise
}
