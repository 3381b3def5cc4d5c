package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mr-tron/base58"
	"github.com/tbd54566975/ssi-service/pkg/storage"
)

// says tells whether an error has a message in it; the empty message means no error.
func says(err error, message string) bool {
	if err == nil || message == "" {
		return err == nil && message == ""
	}
	return strings.Contains(err.Error(), message)
}

func keyJSON(length int) string {
	key := base58.Encode([]byte(strings.Repeat("k", length)))
	return `{"Base58Key":"` + key + `","Base58Salt":"2"}`
}

func TestCheckServiceKey(t *testing.T) {
	tests := map[string]struct{ data, message string }{
		"good":      {keyJSON(keyLength), ""},
		"empty":     {"", "not JSON"},
		"cut":       {keyJSON(keyLength)[:20], "not JSON"},
		"no key":    {"{}", "not base58"},
		"a string":  {`"x"`, "not JSON"},
		"base64":    {`{"Base58Key":"0OIl"}`, "not base58"},
		"too short": {keyJSON(keyLength - 1), "31 bytes"},
		"too long":  {keyJSON(keyLength + 1), "33 bytes"},
	}
	for name, test := range tests {
		err := checkServiceKey([]byte(test.data))
		if !says(err, test.message) {
			t.Errorf("%s: got %v", name, err)
		}
		if err != nil && test.data != "" && strings.Contains(err.Error(), test.data) {
			t.Errorf("%s: the error tells the key", name)
		}
	}
}

const absent = "(absent)"

// state makes a state directory of a database, a service key and a mark, of which each may
// be absent.
func state(t *testing.T, database, key, mark string) serviceKey {
	t.Helper()
	directory := t.TempDir()
	this := serviceKey{
		path:     filepath.Join(directory, keyFile),
		database: filepath.Join(directory, "bolt.db"),
	}
	for path, content := range map[string]string{
		this.database: database, this.path: key, this.unfinished(): mark,
	} {
		if content != absent {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return this
}

func TestCheckState(t *testing.T) {
	key, whole := keyJSON(keyLength), string(boltData(t, keyNamespace))
	tests := map[string]struct{ database, key, mark, message string }{
		"first start":                      {absent, absent, absent, ""},
		"first start, empty database":      {"", absent, absent, ""},
		"later start":                      {whole, key, absent, ""},
		"first start interrupted":          {whole, absent, "", ""},
		"first start interrupted in write": {whole, absent, key[:9], ""},
		"key deleted":                      {whole, absent, absent, "its service key"},
		"key empty":                        {whole, "", absent, "not JSON"},
		"key cut":                          {whole, key[:30], absent, "not JSON"},
		"database deleted":                 {absent, key, absent, "is missing or empty"},
		"database cut to nothing":          {"", key, absent, "is missing or empty"},
		"database cut":                     {whole[:8192], key, absent, "it was cut"},
		"garbage":                          {"data", key, absent, "no bolt database"},
		"another database":                 {string(boltData(t, "x")), key, absent, "no keystore"},
	}
	for name, test := range tests {
		err := state(t, test.database, test.key, test.mark).check()
		if !says(err, test.message) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestFirstStartInterruptedBeforeDatabase(t *testing.T) {
	this := state(t, strings.Repeat("\x00", 4*4096), absent, "")
	if err := this.check(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(this.database); !os.IsNotExist(err) {
		t.Errorf("what no key was ever used for is left: %v", err)
	}
}

func TestExternalKey(t *testing.T) {
	for database, message := range map[string]string{
		absent: "", "": "", string(boltData(t, "x")): "", "data": "is damaged",
	} {
		this := state(t, database, absent, absent)
		this.external = true
		if err := this.check(); !says(err, message) {
			t.Errorf("%.9q: got %v", database, err)
		}
		if _, err := os.Stat(this.unfinished()); !os.IsNotExist(err) {
			t.Errorf("%.9q: a key is kept: %v", database, err)
		}
	}
}

func TestCheckMarksFirstStart(t *testing.T) {
	this := state(t, absent, absent, absent)
	if err := this.check(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(this.unfinished())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info, err)
	}
}

func TestStateDirectoryMissing(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	this := serviceKey{
		path:     filepath.Join(missing, keyFile),
		database: filepath.Join(missing, "bolt.db"),
	}
	if err := this.check(); !says(err, "no such file") {
		t.Errorf("got %v", err)
	}
}

func TestKeepSurvivesRestart(t *testing.T) {
	this := state(t, absent, absent, absent)
	if err := this.check(); err != nil {
		t.Fatal(err)
	}
	ctx, first := context.Background(), keyJSON(keyLength)
	second := strings.Replace(first, "Salt\":\"2", "Salt\":\"3", 1)
	for _, written := range []string{first, second} { // by the module, at each start
		if err := this.check(); err != nil {
			t.Fatal(err)
		}
		db, err := storage.NewStorage(storage.Bolt,
			storage.Option{ID: storage.BoltDBFilePathOption, Option: this.database})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Write(ctx, keyNamespace, keyName, []byte(written)); err != nil {
			t.Fatal(err)
		}
		if err := this.keep(db); err != nil {
			t.Fatal(err)
		}
		if got, err := db.Read(ctx, keyNamespace, keyName); err != nil || string(got) != first {
			t.Errorf("the database has %q, %v", got, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(this.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info, err)
	}
	if _, err := os.Stat(this.unfinished()); !os.IsNotExist(err) {
		t.Errorf("the mark is left: %v", err)
	}
}

func TestKeepRefusesUnusableKey(t *testing.T) {
	this := state(t, absent, absent, absent)
	db, err := storage.NewStorage(storage.Bolt,
		storage.Option{ID: storage.BoltDBFilePathOption, Option: this.database})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := this.keep(db); err == nil {
		t.Error("a database without a service key was accepted")
	}
}
