package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
)

func TestExitStatus(t *testing.T) {
	wrapped := func(err error) error { return refusal{fmt.Errorf("starting: %w", err)} }
	tests := []struct {
		err    error
		status int
	}{
		{wrapped(errors.New("no name")), 78},
		{wrapped(os.ErrPermission), 78},
		{wrapped(damaged("it was cut")), 78},
		{wrapped(errInUse), 1},
		{wrapped(bbolt.ErrTimeout), 1},
		{wrapped(&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}), 1},
		{wrapped(syscall.EROFS), 1},
		{errors.New("address in use"), 1},
		{syscall.EADDRINUSE, 1},
	}
	for _, test := range tests {
		if status := exitStatus(test.err); status != test.status {
			t.Errorf("%v: got %d", test.err, status)
		}
	}
}
