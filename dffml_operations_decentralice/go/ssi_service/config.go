package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tbd54566975/ssi-service/config"
	"github.com/tbd54566975/ssi-service/pkg/storage"
)

const passwordCredential = "ssi-service.keystore-password"

// loadConfig reads a configuration that must be there: without one the module would listen
// on a random port of all interfaces, with its database in the working directory.
func loadConfig(path string) (cfg *config.SSIServiceConfig, err error) {
	if path == "" {
		return nil, errors.New("CONFIG_PATH is not set: it must name the configuration file")
	}
	// The module follows a nil pointer where a table of [services] has no name.
	defer func() {
		if recover() != nil {
			cfg, err = nil, fmt.Errorf("%s: each table of [services] needs a name", path)
		}
	}()
	cfg, err = config.LoadConfig(path)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	return cfg, nil
}

// placeDatabase makes the path of the module's one bolt database one within the directory
// that systemd made for the state, unless it is absolute, and tells it. Without such a
// directory it stays what it is, relative to the working directory.
//
// https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#RuntimeDirectory=
func placeDatabase(services *config.ServicesConfig, directories string) (string, error) {
	if services.StorageProvider != string(storage.Bolt) {
		return "", fmt.Errorf("storage is %q: only %q is supported, "+
			"the service key is kept beside its file", services.StorageProvider, storage.Bolt)
	}
	directory, _, _ := strings.Cut(directories, ":")
	for i, option := range services.StorageOptions {
		path, ok := option.Option.(string)
		if !ok || path == "" || option.ID != storage.BoltDBFilePathOption {
			continue
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(directory, path)
		}
		services.StorageOptions[i].Option = path
		return path, nil
	}
	return "", fmt.Errorf("no storage_option with id %q and the database's path as its option",
		storage.BoltDBFilePathOption)
}

// setPassword takes the keystore's password from systemd's credentials, if it is there;
// else it stays the configuration's. Its errors say nothing of what it is.
//
// https://systemd.io/CREDENTIALS/
func setPassword(keystore *config.KeyStoreServiceConfig, directory string) error {
	if directory != "" {
		given, err := os.ReadFile(filepath.Join(directory, passwordCredential))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("reading credential %s: %w", passwordCredential, err)
		}
		if err == nil {
			keystore.MasterKeyPassword = strings.TrimSuffix(string(given), "\n")
			if keystore.MasterKeyPassword == "" {
				return fmt.Errorf("credential %s is empty", passwordCredential)
			}
		}
	}
	if keystore.MasterKeyPassword == "" && keystore.MasterKeyURI == "" {
		return fmt.Errorf("no password of services.keystore, and no credential %s",
			passwordCredential)
	}
	return nil
}
