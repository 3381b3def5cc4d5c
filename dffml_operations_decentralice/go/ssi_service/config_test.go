package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tbd54566975/ssi-service/config"
	"github.com/tbd54566975/ssi-service/pkg/storage"
)

// The image's own configuration, so that both are tested together.
const shipped = "../../files/ssi_service/etc/ssi-service/config.toml"

func bolt(option any) config.ServicesConfig {
	return withOption(storage.BoltDBFilePathOption, option)
}

func withOption(id storage.OptionKey, option any) config.ServicesConfig {
	return config.ServicesConfig{
		StorageProvider: "bolt",
		StorageOptions:  []storage.Option{{ID: id, Option: option}},
	}
}

func TestPlaceDatabase(t *testing.T) {
	accepted := []struct{ option, directories, path string }{
		{"bolt.db", "", "bolt.db"},
		{"/var/lib/b.d", "", "/var/lib/b.d"},
		{"bolt.db", "/var/lib/ssi-service", "/var/lib/ssi-service/bolt.db"},
		{"a/bolt.db", "/state", "/state/a/bolt.db"},
		{"bolt.db", "/first:/second", "/first/bolt.db"},
		{"/elsewhere/bolt.db", "/state", "/elsewhere/bolt.db"},
	}
	for _, test := range accepted {
		services := bolt(test.option)
		path, err := placeDatabase(&services, test.directories)
		if err != nil || path != test.path {
			t.Errorf("%v: got %q, %v", test, path, err)
		}
		if told := services.StorageOptions[0].Option; told != test.path {
			t.Errorf("%v: the module is told %v", test, told)
		}
	}
	rejected := map[string]struct {
		services config.ServicesConfig
		message  string
	}{
		"redis":           {config.ServicesConfig{StorageProvider: "redis"}, `storage is "redis"`},
		"no provider":     {config.ServicesConfig{}, `storage is ""`},
		"no option":       {config.ServicesConfig{StorageProvider: "bolt"}, "no storage_option"},
		"empty":           {bolt(""), "no storage_option"},
		"not a string":    {bolt(7), "no storage_option"},
		"nothing":         {bolt(nil), "no storage_option"},
		"other option id": {withOption("x", "y"), "no storage_option"},
	}
	for name, test := range rejected {
		if path, err := placeDatabase(&test.services, "/state"); !says(err, test.message) {
			t.Errorf("%s: got %q, %v", name, path, err)
		}
	}
}

func TestSetPassword(t *testing.T) {
	tests := map[string]struct{ configured, credential, password, message string }{
		"configured":              {"a", absent, "a", ""},
		"credential":              {"", "b", "b", ""},
		"credential wins":         {"a", "b", "b", ""},
		"credential of a line":    {"a", "b\n", "b", ""},
		"credential of two lines": {"a", "b\n\n", "b\n", ""},
		"credential with spaces":  {"a", " b ", " b ", ""},
		"neither":                 {"", absent, "", "no password"},
		"empty":                   {"a", "", "", "is empty"},
		"an empty line":           {"a", "\n", "", "is empty"},
	}
	for name, test := range tests {
		directory := t.TempDir()
		if test.credential != absent {
			path := filepath.Join(directory, passwordCredential)
			if err := os.WriteFile(path, []byte(test.credential), 0o400); err != nil {
				t.Fatal(err)
			}
		}
		keystore := config.KeyStoreServiceConfig{MasterKeyPassword: test.configured}
		err := setPassword(&keystore, directory)
		if !says(err, test.message) || err == nil && keystore.MasterKeyPassword != test.password {
			t.Errorf("%s: got %q, %v", name, keystore.MasterKeyPassword, err)
		}
	}
}

func TestSetPasswordWithout(t *testing.T) {
	keystore := config.KeyStoreServiceConfig{MasterKeyPassword: "a"}
	if err := setPassword(&keystore, ""); err != nil || keystore.MasterKeyPassword != "a" {
		t.Errorf("no credentials: got %q, %v", keystore.MasterKeyPassword, err)
	}
	managed := config.KeyStoreServiceConfig{MasterKeyURI: "gcp-kms://x"}
	if err := setPassword(&managed, ""); err != nil {
		t.Errorf("a key management service: got %v", err)
	}
	unreadable := t.TempDir()
	if err := os.Mkdir(filepath.Join(unreadable, passwordCredential), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := setPassword(&keystore, unreadable); !says(err, "reading credential") {
		t.Errorf("a directory: got %v", err)
	}
}

func load(t *testing.T, path string) (*config.SSIServiceConfig, error) {
	t.Helper()
	arguments := os.Args // which the module parses too
	os.Args = os.Args[:1]
	t.Cleanup(func() { os.Args = arguments })
	return loadConfig(path)
}

func TestShippedConfig(t *testing.T) {
	cfg, err := load(t, shipped)
	if err != nil {
		t.Fatal(err)
	}
	if err := requireLoopback("api_host", cfg.Server.APIHost); err != nil {
		t.Error(err)
	}
	// relative: the same file serves the system's service and each user's
	if path, err := placeDatabase(&cfg.Services, ""); err != nil || filepath.IsAbs(path) {
		t.Errorf("got %q, %v", path, err)
	}
	if cfg.Server.ShutdownTimeout == 0 || cfg.Server.ReadTimeout == 0 || cfg.Server.WriteTimeout == 0 {
		t.Error("a timeout is missing: none would apply")
	}
}

func TestLoadConfigRejects(t *testing.T) {
	good, err := os.ReadFile(shipped)
	if err != nil {
		t.Fatal(err)
	}
	rejected := map[string]struct{ file, content, message string }{
		"no path":      {"", "", "CONFIG_PATH is not set"},
		"no file":      {"missing.toml", "", "no such file or directory"},
		"other suffix": {"config.yaml", "a: 1", `must be ".toml"`},
		"no TOML":      {"config.toml", "x", "toml: line"},
		"no name": {"config.toml",
			strings.Replace(string(good), `name = "webhook"`, "", 1), "needs a name"},
	}
	for name, test := range rejected {
		path := test.file
		if path != "" {
			path = filepath.Join(t.TempDir(), path)
		}
		if test.content != "" {
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := load(t, path); !says(err, test.message) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
