package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tbd54566975/ssi-service/pkg/storage"
)

func opened(t *testing.T) (storage.ServiceStorage, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bolt.db")
	db, err := storage.NewStorage(storage.Bolt,
		storage.Option{ID: storage.BoltDBFilePathOption, Option: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db, path
}

// health is the answer of a probe, whose status has to be as given.
func health(t *testing.T, p *probe, status int) string {
	t.Helper()
	answer := httptest.NewRecorder()
	p.ServeHTTP(answer, httptest.NewRequest("GET", "/health", nil))
	if answer.Code != status {
		t.Errorf("got %d, %s", answer.Code, answer.Body)
	}
	if found := answer.Header().Get("Content-Type"); !strings.HasPrefix(found, "application/json") {
		t.Errorf("got %q", found)
	}
	return answer.Body.String()
}

func TestHealth(t *testing.T) {
	db, _ := opened(t)
	this := newProbe(db)
	for range 3 {
		if said := health(t, this, 200); said != `{"status":"OK"}`+"\n" {
			t.Errorf("got %s", said)
		}
	}
	keys, err := db.ReadAllKeys(context.Background(), probeNamespace)
	if err != nil || len(keys) != 1 {
		t.Errorf("it leaves %v, %v", keys, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if said := health(t, this, 503); !strings.Contains(said, `"error":"writing to`) {
		t.Errorf("got %s", said)
	}
}

func TestHealthOfHangingDatabase(t *testing.T) {
	db, _ := opened(t)
	this := newProbe(db)
	this.limit = time.Millisecond
	_, err := db.Execute(context.Background(), func(context.Context, storage.Tx) (any, error) {
		for range 3 { // the second one does not even have its turn
			if said := health(t, this, 503); !strings.Contains(said, "does not answer") {
				t.Errorf("got %s", said)
			}
		}
		return nil, nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	this.limit = time.Minute
	health(t, this, 200)
}

// TestHealthOfFullDisk has no room for the file to grow, which is EFBIG instead of ENOSPC.
func TestHealthOfFullDisk(t *testing.T) {
	db, path := opened(t)
	this, ctx := newProbe(db), context.Background()
	health(t, this, 200)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	full := limit
	full.Cur = uint64(info.Size())
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		t.Fatal(err)
	}
	restore := func() { _ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit) }
	t.Cleanup(restore)
	for _, size := range []int{8000, 700, 7} { // pages that are free in the file are used first
		err = nil
		for i := 0; err == nil; i++ {
			key := fmt.Sprint(size, " ", i)
			err = db.Write(ctx, "filler", key, bytes.Repeat([]byte("x"), size))
		}
		if !says(err, "too large") {
			t.Fatal(err)
		}
	}
	said := health(t, this, 503)
	if !strings.Contains(said, "too large") {
		t.Errorf("got %s", said)
	}
	restore()
	health(t, this, 200)
}
