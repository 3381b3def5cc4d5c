package main

import (
	"errors"
	"fmt"

	"github.com/tbd54566975/ssi-service/config"
	"github.com/tbd54566975/ssi-service/pkg/storage"
)

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

// databasePath is where the module keeps its one bolt database, as its own option names it.
func databasePath(services config.ServicesConfig) (string, error) {
	if services.StorageProvider != string(storage.Bolt) {
		return "", fmt.Errorf("storage is %q: only %q is supported, "+
			"the service key is kept beside its file", services.StorageProvider, storage.Bolt)
	}
	for _, option := range services.StorageOptions {
		if path, ok := option.Option.(string); ok && path != "" &&
			option.ID == storage.BoltDBFilePathOption {
			return path, nil
		}
	}
	return "", fmt.Errorf("no storage_option with id %q and the database's path as its option",
		storage.BoltDBFilePathOption)
}
