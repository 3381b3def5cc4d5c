package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
)

// checkLimit bounds how long a start may take for the check: a sound database of 1 GB is
// read in seconds, and systemd waits for minutes.
const checkLimit = 10 * time.Second

// Bolt's file format, version 2, which is the machine's byte order:
// https://github.com/etcd-io/bbolt/blob/v1.3.7/page.go, .../db.go (meta), .../bucket.go
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2
	pageHead    = 16 // id uint64; flags, count uint16; overflow uint32
	metaLength  = 64 // behind a page's head
	elementSize = 16
	bucketHead  = 16 // root, sequence uint64

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketFlag   = 0x01

	noFreelist    = math.MaxUint64
	countInFront  = math.MaxUint16 // the freelist's own length is its first entry
	firstDataPage = 2
)

var (
	errInUse   = errors.New("another process has it open")
	errTooSlow = errors.New("the time for the check is over")
)

// damage says what is wrong with a database.
type damage string

func (d damage) Error() string { return string(d) }

func damaged(format string, values ...any) error { return damage(fmt.Sprintf(format, values...)) }

// boltFile is a database while it is checked. The module maps the file into memory, where
// damage is a fault or a panic, at times in a goroutine that nobody can guard (as in bolt's
// own Tx.Check). Here it is read, and everything that it says of itself is doubted.
type boltFile struct {
	io.ReaderAt
	pageSize uint64
	meta     boltMeta // the newer of two
	used     []bool   // by page: free, or referred to
	buckets  []string
	deadline time.Time
}

type boltMeta struct {
	pageSize, root, freelist, pages, transaction uint64
}

// checkDatabase tells whether a database which has to have some buckets is whole: each page
// that it refers to is in the file, is of its kind, and is referred to once; keys are in
// order. What the values are is not checked: bolt has no checksum of them.
//
// The file's length is checked first, so that one that was cut is always found. The rest
// goes from the root downwards until the limit: then the database counts as whole.
func checkDatabase(path string, limit time.Duration, buckets ...string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errInUse
	}
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	this, err := openBolt(file, uint64(info.Size()))
	if err != nil {
		return err
	}
	defer debug.FreeOSMemory() // of the pages, which would stay with the service
	this.deadline = time.Now().Add(limit)
	err = this.check()
	if errors.Is(err, errTooSlow) {
		logrus.Warnf("only a part of %s was checked: it is read for more than %v", path, limit)
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range buckets {
		if !slices.Contains(this.buckets, name) {
			return damaged("it has no %s", name)
		}
	}
	return nil
}

func openBolt(file io.ReaderAt, size uint64) (*boltFile, error) {
	meta, valid := readMeta(file, 0)
	pageSize := meta.pageSize
	if !valid {
		pageSize = uint64(os.Getpagesize()) // as bolt chose it when it made the file here
	}
	if second, ok := readMeta(file, int64(pageSize)); ok && second.pageSize == pageSize {
		if !valid || second.transaction > meta.transaction {
			meta, valid = second, true
		}
	}
	if !valid {
		return nil, damaged("it is no bolt database")
	}
	if meta.pages < firstDataPage || meta.pages > size/pageSize {
		return nil, damaged("it was cut: it has %d bytes of %d pages of %d bytes",
			size, meta.pages, pageSize)
	}
	used := make([]bool, meta.pages)
	used[0], used[1] = true, true // the metas
	return &boltFile{ReaderAt: file, pageSize: pageSize, meta: meta, used: used}, nil
}

// readMeta reads one of the two pages that say where all others are; bolt writes them in
// turn, so that one may be torn.
func readMeta(file io.ReaderAt, offset int64) (boltMeta, bool) {
	data := make([]byte, metaLength)
	if _, err := file.ReadAt(data, offset+pageHead); err != nil {
		return boltMeta{}, false
	}
	order, sum := binary.NativeEndian, fnv.New64a()
	sum.Write(data[:metaLength-8])
	meta := boltMeta{
		pageSize:    uint64(order.Uint32(data[8:])),
		root:        order.Uint64(data[16:]),
		freelist:    order.Uint64(data[32:]),
		pages:       order.Uint64(data[40:]),
		transaction: order.Uint64(data[48:]),
	}
	valid := order.Uint32(data) == boltMagic && order.Uint32(data[4:]) == boltVersion &&
		order.Uint64(data[metaLength-8:]) == sum.Sum64() &&
		meta.pageSize >= pageHead+metaLength && meta.pageSize <= 1<<24
	return meta, valid
}

func (b *boltFile) check() error {
	if err := b.checkFreelist(); err != nil {
		return err
	}
	return b.checkTree(b.meta.root, nil, nil)
}

func (b *boltFile) checkFreelist() error {
	if b.meta.freelist == noFreelist {
		return nil
	}
	page, err := b.page(b.meta.freelist)
	if err != nil {
		return err
	}
	if page.flags != freelistPage {
		return damaged("page %d is not the list of free pages", page.id)
	}
	count, entries := uint64(page.count), page.data[pageHead:]
	if count == countInFront {
		count, entries = binary.NativeEndian.Uint64(entries), entries[8:]
	}
	if count > uint64(len(entries)/8) {
		return damaged("page %d: more free pages than it can list", page.id)
	}
	for i := range count {
		if err := b.use(binary.NativeEndian.Uint64(entries[8*i:]), 1); err != nil {
			return err
		}
	}
	return nil
}

// checkTree checks a page and all below it, with keys from low up to, but not, high.
func (b *boltFile) checkTree(id uint64, low, high []byte) error {
	if time.Now().After(b.deadline) {
		return errTooSlow
	}
	page, err := b.page(id)
	if err != nil {
		return err
	}
	switch page.flags {
	case branchPage:
		return b.checkBranch(page, low, high)
	case leafPage:
		return b.checkLeaf(page, low, high)
	}
	return damaged("page %d is neither branch nor leaf", id)
}

func (b *boltFile) checkBranch(page boltPage, low, high []byte) error {
	if page.count == 0 {
		return damaged("page %d is an empty branch", page.id)
	}
	keys, err := page.keys(low, high)
	if err != nil {
		return err
	}
	for i, key := range keys {
		above := high
		if i+1 < len(keys) {
			above = keys[i+1]
		}
		child := binary.NativeEndian.Uint64(page.element(i)[8:])
		if err := b.checkTree(child, key, above); err != nil {
			return err
		}
	}
	return nil
}

func (b *boltFile) checkLeaf(page boltPage, low, high []byte) error {
	keys, err := page.keys(low, high)
	if err != nil {
		return err
	}
	for i, key := range keys {
		if binary.NativeEndian.Uint32(page.element(i))&bucketFlag == 0 {
			continue
		}
		b.buckets = append(b.buckets, string(key))
		if err := b.checkBucket(page.id, page.value(i)); err != nil {
			return err
		}
	}
	return nil
}

// checkBucket checks what a bucket's value refers to: another page, or one within.
func (b *boltFile) checkBucket(id uint64, value []byte) error {
	if len(value) < bucketHead {
		return damaged("page %d: a bucket without a head", id)
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return b.checkTree(root, nil, nil)
	}
	inline, ok := newPage(value[bucketHead:])
	if !ok || inline.flags != leafPage {
		return damaged("page %d: a bucket without a leaf", id)
	}
	inline.id = id
	return b.checkLeaf(inline, nil, nil)
}

// use notes that pages are referred to.
func (b *boltFile) use(id, count uint64) error {
	if id >= b.meta.pages || count > b.meta.pages-id {
		return damaged("page %d is referred to and is not there", id)
	}
	for i := id; i < id+count; i++ {
		if b.used[i] {
			return damaged("page %d is referred to twice", i)
		}
		b.used[i] = true
	}
	return nil
}

// boltPage is a page with those that it overflows into, or one within a leaf's value.
type boltPage struct {
	id, overflow uint64
	flags, count uint16
	data         []byte // from its head on
}

func newPage(data []byte) (boltPage, bool) {
	if len(data) < pageHead {
		return boltPage{}, false
	}
	order := binary.NativeEndian
	return boltPage{
		id:       order.Uint64(data),
		flags:    order.Uint16(data[8:]),
		count:    order.Uint16(data[10:]),
		overflow: uint64(order.Uint32(data[12:])),
		data:     data,
	}, true
}

// page reads a page that is referred to.
func (b *boltFile) page(id uint64) (boltPage, error) {
	if err := b.use(id, 1); err != nil {
		return boltPage{}, err
	}
	data, err := b.read(id, 1)
	if err != nil {
		return boltPage{}, err
	}
	page, ok := newPage(data)
	if !ok || page.id != id {
		return boltPage{}, damaged("page %d is not what it should be", id)
	}
	if page.overflow == 0 {
		return page, nil
	}
	if err := b.use(id+1, page.overflow); err != nil {
		return boltPage{}, err
	}
	page.data, err = b.read(id, 1+page.overflow)
	return page, err
}

func (b *boltFile) read(id, count uint64) ([]byte, error) {
	data := make([]byte, count*b.pageSize)
	_, err := b.ReadAt(data, int64(id*b.pageSize))
	return data, err
}

func (p boltPage) element(i int) []byte {
	start := pageHead + elementSize*i
	return p.data[start : start+elementSize]
}

// place is where the key and the value of an element begin and end, in p.data.
func (p boltPage) place(i int) (key, value, end int) {
	order, element := binary.NativeEndian, p.element(i)
	if p.flags == leafPage {
		key = pageHead + elementSize*i + int(order.Uint32(element[4:]))
		value = key + int(order.Uint32(element[8:]))
		return key, value, value + int(order.Uint32(element[12:]))
	}
	key = pageHead + elementSize*i + int(order.Uint32(element))
	value = key + int(order.Uint32(element[4:]))
	return key, value, value
}

func (p boltPage) value(i int) []byte {
	_, value, end := p.place(i)
	return p.data[value:end]
}

// keys are those of all elements, which are in order, and within the page as values are.
func (p boltPage) keys(low, high []byte) ([][]byte, error) {
	if pageHead+elementSize*int(p.count) > len(p.data) {
		return nil, damaged("page %d: more elements than it can have", p.id)
	}
	keys := make([][]byte, p.count)
	for i := range keys {
		start, value, end := p.place(i)
		if end > len(p.data) {
			return nil, damaged("page %d: an element which ends outside of it", p.id)
		}
		keys[i] = p.data[start:value]
		switch {
		case i > 0 && bytes.Compare(keys[i-1], keys[i]) >= 0,
			i == 0 && bytes.Compare(low, keys[i]) > 0,
			high != nil && bytes.Compare(keys[i], high) >= 0:
			return nil, damaged("page %d: keys out of order", p.id)
		}
	}
	return keys, nil
}
