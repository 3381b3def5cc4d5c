package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mr-tron/base58"
	"github.com/tbd54566975/ssi-service/pkg/service/keystore"
	"github.com/tbd54566975/ssi-service/pkg/storage"
)

const (
	keyNamespace = "keystore"         // of pkg/service/keystore
	keyName      = "ssi-service-key"  // likewise
	keyFile      = "service-key.json" // beside the database
	keyLength    = 32                 // bytes, of XChaCha20-Poly1305
)

// serviceKey is the key that encrypts all others in the database. The module makes a new one
// at each start; the first one is kept in a file beside the database and put back.
//
// An unfinished file (path + ".new") marks a first start that was interrupted: the database
// is there, but no key was handed out yet, so that a new service key loses nothing.
type serviceKey struct {
	path, database string
	external       bool // a key management service holds it: there is nothing to keep
}

func serviceKeyOf(database, masterKeyURI string) serviceKey {
	return serviceKey{
		path:     filepath.Join(filepath.Dir(database), keyFile),
		database: database,
		external: masterKeyURI != "",
	}
}

func (k serviceKey) unfinished() string { return k.path + ".new" }

// check refuses to start on a state which is not whole: the module would start without a
// word, empty or with none of the old keys.
func (k serviceKey) check() error {
	haveDatabase, err := hasContent(k.database)
	if err != nil {
		return err
	}
	if k.external {
		return k.checkDatabase(haveDatabase)
	}
	kept, err := os.ReadFile(k.path)
	switch {
	case err == nil:
		if err := checkServiceKey(kept); err != nil {
			return fmt.Errorf("%s: %w: restore it from a backup", k.path, err)
		}
		if !haveDatabase {
			return fmt.Errorf("%s is missing or empty, its service key is there: restore the "+
				"database from a backup, or move %s away to begin anew", k.database, k.path)
		}
		return k.checkDatabase(haveDatabase, keyNamespace)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case !haveDatabase:
		return writeDurably(k.unfinished(), nil)
	}
	if _, err := os.Stat(k.unfinished()); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there, its service key %s is not: restore it from a backup, "+
			"no key in the database can be used without it", k.database, k.path)
	} else if err != nil {
		return err
	}
	if broken := new(damage); errors.As(k.checkDatabase(haveDatabase), broken) {
		return os.Remove(k.database) // by the first start's interruption: nothing is in it
	}
	return nil
}

// checkDatabase checks a database that has content, in which some buckets have to be.
func (k serviceKey) checkDatabase(haveContent bool, buckets ...string) error {
	if !haveContent {
		return nil
	}
	err := checkDatabase(k.database, checkLimit, buckets...)
	if broken := new(damage); errors.As(err, broken) {
		return fmt.Errorf("%s is damaged: %w: restore it and %s from a backup, both together",
			k.database, err, k.path)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", k.database, err)
	}
	return nil
}

// keep puts the key of the first start back, or keeps it if this is the first start.
func (k serviceKey) keep(db storage.ServiceStorage) error {
	if k.external {
		return nil
	}
	ctx := context.Background()
	kept, err := os.ReadFile(k.path)
	if err == nil {
		return db.Write(ctx, keyNamespace, keyName, kept)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := db.Read(ctx, keyNamespace, keyName)
	if err != nil {
		return err
	}
	if err := checkServiceKey(key); err != nil {
		return err
	}
	if err := writeDurably(k.unfinished(), key); err != nil {
		return err
	}
	if err := os.Rename(k.unfinished(), k.path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(k.path))
}

// checkServiceKey tells whether the module could encrypt with this key. Its errors say
// nothing of the key's bytes.
func checkServiceKey(data []byte) error {
	var key keystore.ServiceKey
	if err := json.Unmarshal(data, &key); err != nil {
		return errors.New("the service key is not JSON")
	}
	raw, err := base58.Decode(key.Base58Key)
	if err != nil {
		return errors.New("the service key is not base58")
	}
	if len(raw) != keyLength {
		return fmt.Errorf("the service key has %d bytes, not %d", len(raw), keyLength)
	}
	return nil
}

func hasContent(path string) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s is not a regular file", path)
	}
	return info.Size() > 0, nil
}

// writeDurably returns when data and the file's name have reached the disk.
func writeDurably(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}
