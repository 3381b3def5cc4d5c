package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tbd54566975/ssi-service/pkg/storage"
)

const (
	probeNamespace = "decentralice-health"
	probeKey       = "last"
	probeSize      = 8 << 10         // bytes, as of a large credential: a few would fit a full disk
	probeLimit     = 3 * time.Second // less than the write_timeout of the configuration
)

// probe answers whether the service can do what it is for: write to its database, and read
// that again. The module's own answer is always yes, also with a full disk.
type probe struct {
	db    storage.ServiceStorage
	limit time.Duration
	turn  chan struct{} // a database that hangs has one of them waiting, not one a request
}

func newProbe(db storage.ServiceStorage) *probe {
	return &probe{db: db, limit: probeLimit, turn: make(chan struct{}, 1)}
}

func (p *probe) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := p.try(r.Context()); err != nil {
		refuse(w, http.StatusServiceUnavailable, oneLine(err))
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "OK"})
}

func (p *probe) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	late := fmt.Errorf("the database does not answer within %v", p.limit)
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return late
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-p.turn }()
		done <- contained(p.writeAndRead)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return late
	}
}

func (p *probe) writeAndRead() error {
	ctx, written := context.Background(), make([]byte, probeSize)
	_, _ = rand.Read(written) // which never fails
	if err := p.db.Write(ctx, probeNamespace, probeKey, written); err != nil {
		return fmt.Errorf("writing to the database: %w", err)
	}
	read, err := p.db.Read(ctx, probeNamespace, probeKey)
	if err != nil {
		return fmt.Errorf("reading from the database: %w", err)
	}
	if !bytes.Equal(read, written) {
		return errors.New("the database does not keep what is written to it")
	}
	return nil
}
