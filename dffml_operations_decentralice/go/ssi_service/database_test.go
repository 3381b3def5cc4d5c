package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// boltData is the content of a small database of a bucket.
func boltData(t *testing.T, bucket string) []byte {
	t.Helper()
	return madeBolt(t, func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte(bucket))
		return err
	})
}

// largeBolt is one of all kinds of pages: branches, leaves, values longer than a page, free
// ones, buckets with pages of their own, within others, and within their leaf.
func largeBolt(t *testing.T) []byte {
	t.Helper()
	put := func(bucket *bbolt.Bucket, from, to, length int) {
		for i := from; i < to; i++ {
			value := bytes.Repeat([]byte{byte(i)}, length)
			if err := bucket.Put(fmt.Appendf(nil, "key %06d", i), value); err != nil {
				t.Fatal(err)
			}
		}
	}
	return madeBolt(t, func(tx *bbolt.Tx) error {
		many, _ := tx.CreateBucket([]byte("many"))
		put(many, 0, 3000, 40)
		long, _ := tx.CreateBucket([]byte("long"))
		put(long, 0, 5, 20000)
		inner, _ := many.CreateBucket([]byte("inner"))
		put(inner, 0, 200, 100)
		inline, _ := tx.CreateBucket([]byte("small"))
		put(inline, 0, 2, 3)
		_, err := tx.CreateBucket([]byte("empty"))
		return err
	}, func(tx *bbolt.Tx) error {
		many := tx.Bucket([]byte("many"))
		for i := 500; i < 1500; i++ {
			if err := many.Delete(fmt.Appendf(nil, "key %06d", i)); err != nil {
				return err
			}
		}
		return nil
	}, func(tx *bbolt.Tx) error {
		put(tx.Bucket([]byte("small")), 2, 4, 3)
		return nil
	})
}

func madeBolt(t *testing.T, changes ...func(*bbolt.Tx) error) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bolt.db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		if err := db.Update(change); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func checkData(t *testing.T, data []byte, limit time.Duration, buckets ...string) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bolt.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return checkDatabase(path, limit, buckets...)
}

// changed is data with others at an offset.
func changed(data []byte, offset int, others ...byte) []byte {
	return append(append(bytes.Clone(data[:offset]), others...), data[offset+len(others):]...)
}

func TestCheckDatabase(t *testing.T) {
	const size = 4096
	whole := largeBolt(t)
	this, err := openBolt(bytes.NewReader(whole), uint64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	root, free := int(this.meta.root)*size, int(this.meta.freelist)*size
	newer := int(this.meta.transaction%2) * size // where bolt wrote the newer meta
	loop := binary.LittleEndian.AppendUint64(nil, this.meta.root)
	// The count that says that the first entry is the count, no overflow, that entry
	longest := append([]byte{0xFF, 0xFF, 0, 0, 0, 0}, bytes.Repeat([]byte{0xFF}, 8)...)
	tests := map[string]struct {
		data    []byte
		message string
	}{
		"whole":               {whole, ""},
		"an inline bucket":    {boltData(t, "x"), ""},
		"no bucket":           {madeBolt(t), ""},
		"room at the end":     {append(bytes.Clone(whole), make([]byte, size)...), ""},
		"newer meta torn":     {changed(whole, newer+50, 1), ""},
		"older meta torn":     {changed(whole, size-newer+50, 1), ""},
		"both torn":           {changed(changed(whole, 50, 1), size+50, 1), "no bolt database"},
		"nothing":             {nil, "no bolt database"},
		"a byte":              {whole[:1], "no bolt database"},
		"a page":              {whole[:size], "it was cut"},
		"two pages":           {whole[:2*size], "it was cut"},
		"half":                {whole[:len(whole)/2], "it was cut"},
		"garbage":             {bytes.Repeat([]byte("damaged\n"), 9999), "no bolt database"},
		"zeros":               {make([]byte, len(whole)), "no bolt database"},
		"root zero":           {changed(whole, root, make([]byte, size)...), "not what it should"},
		"root of another id":  {changed(whole, root, 0xEE), "not what it should"},
		"root no tree":        {changed(whole, root+8, 0x10), "neither branch nor leaf"},
		"too many elements":   {changed(whole, root+10, 0xFF, 0xFF), "more elements"},
		"long overflow":       {changed(whole, root+12, 0xFF, 0xFF, 0xFF, 0xFF), "is not there"},
		"key outside":         {changed(whole, root+pageHead+4, 0xFF, 0xFF), "outside of it"},
		"keys out of order":   {bytes.Replace(whole, []byte("empty"), []byte("zmpty"), -1), "out of order"},
		"freelist no list":    {changed(whole, free+8, leafPage), "not the list"},
		"freelist too long":   {changed(whole, free+10, 0xFE, 0xFF), "more free pages"},
		"freelist very long":  {changed(whole, free+10, longest...), "more free pages"},
		"free page not there": {changed(whole, free+pageHead, 0xFF, 0xFF, 0xFF), "is not there"},
		"used page free":      {changed(whole, free+pageHead, loop...), "referred to twice"},
	}
	for name, test := range tests {
		if err := checkData(t, test.data, time.Minute); !says(err, test.message) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestCheckDatabaseBuckets(t *testing.T) {
	whole := largeBolt(t)
	if err := checkData(t, whole, time.Minute, "many", "small"); err != nil {
		t.Error(err)
	}
	if err := checkData(t, whole, time.Minute, "many", "none"); !says(err, "it has no none") {
		t.Errorf("got %v", err)
	}
}

func TestCheckDatabaseLimit(t *testing.T) {
	whole := largeBolt(t)
	if err := checkData(t, whole, -1, "none"); err != nil {
		t.Errorf("out of time: got %v", err)
	}
	if err := checkData(t, whole[:len(whole)/2], -1); !says(err, "it was cut") {
		t.Errorf("out of time, and cut: got %v", err)
	}
}

func TestCheckDatabaseInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bolt.db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkDatabase(path, time.Minute); !errors.Is(err, errInUse) {
		t.Errorf("got %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := checkDatabase(path, time.Minute); err != nil {
		t.Errorf("closed: got %v", err)
	}
}

// TestDamage changes bytes where they hurt, in the heads of pages and elements: the check
// ends with an answer, and what it lets pass, bolt can read.
func TestDamage(t *testing.T) {
	whole, found := largeBolt(t), 0
	chance := rand.New(rand.NewPCG(1, 2))
	pages := len(whole) / 4096
	const rounds = 400
	path := filepath.Join(t.TempDir(), "bolt.db")
	for round := range rounds {
		data := bytes.Clone(whole)
		for range 1 + round%3 {
			at := chance.IntN(pages)*4096 + chance.IntN(200)
			data[at] ^= 1 << chance.IntN(8)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if checkDatabase(path, time.Minute) != nil {
			found++
		} else if err := contained(func() error { return readAll(path) }); err != nil {
			t.Errorf("round %d: accepted, but bolt: %v", round, err)
		}
	}
	if found < rounds/10 {
		t.Errorf("only %d of %d were found", found, rounds)
	}
}

func readAll(path string) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error { return readBucket(bucket) })
	})
}

func readBucket(bucket *bbolt.Bucket) error {
	return bucket.ForEach(func(key, value []byte) error {
		if value == nil {
			return readBucket(bucket.Bucket(key))
		}
		_ = append(bytes.Clone(key), value...)
		return nil
	})
}

func TestContained(t *testing.T) {
	if err := contained(func() error { return nil }); err != nil {
		t.Error(err)
	}
	if err := contained(func() error { return errInUse }); err != errInUse {
		t.Errorf("got %v", err)
	}
	if err := contained(func() error { panic("no name") }); !says(err, "no name") {
		t.Errorf("got %v", err)
	}
	// A real fault: bolt's own pages, which are cut from under it
	path := filepath.Join(t.TempDir(), "bolt.db")
	if err := os.WriteFile(path, largeBolt(t), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 2*4096); err != nil {
		t.Fatal(err)
	}
	err = contained(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error { return readBucket(bucket) })
		})
	})
	if !says(err, "panicked") {
		t.Errorf("got %v", err)
	}
}
