package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
)

const (
	// maxBody is in bytes; the largest credential issued in practice is a few KiB.
	maxBody = 1 << 20
	// maxUnread is how much of a body too large is read and thrown away, so that a client
	// which writes before it reads gets its answer rather than a broken connection.
	maxUnread = 64 << 20
)

// guarded is the module's handler behind what it does not do by itself.
func guarded(module http.Handler, health *probe) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A fault in the mapped database is this request's panic, not the process's end
		debug.SetPanicOnFault(true)
		if reason := foreign(r); reason != "" {
			refuse(w, http.StatusForbidden, reason)
			return
		}
		if err := readBody(w, r); err != nil {
			status := http.StatusBadRequest
			if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
				status = http.StatusRequestEntityTooLarge
			}
			refuse(w, status, err.Error())
			return
		}
		if r.Method == http.MethodGet && r.URL.Path == "/health" {
			health.ServeHTTP(w, r)
			return
		}
		module.ServeHTTP(w, r)
	})
}

// foreign says why a request is none of this machine's; empty if it is. A web page may send
// requests here, by the address or by a name of its own that it lets resolve to it (DNS
// rebinding): what its browser then says in Host and Origin is the only difference.
func foreign(r *http.Request) string {
	address, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	overUnix := address != nil && address.Network() == "unix"
	if !overUnix && !isLoopback(hostOf(r.Host)) {
		return fmt.Sprintf("Host %q is not this machine", r.Host)
	}
	for _, origin := range r.Header.Values("Origin") {
		from, err := url.Parse(origin)
		if err != nil || !isLoopback(from.Hostname()) {
			return fmt.Sprintf("Origin %q is not this machine", origin)
		}
	}
	return ""
}

// hostOf is a Host header without its port.
func hostOf(header string) string {
	if host, _, err := net.SplitHostPort(header); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(header, "["), "]")
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// readBody has a body whole before anything is done with it: the module would read its
// first JSON value, whatever comes behind that.
func readBody(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, io.NopCloser(r.Body), maxBody))
	if err != nil {
		_, _ = io.CopyN(io.Discard, r.Body, maxUnread)
		return err
	}
	if len(body) > 0 && !json.Valid(body) {
		return errors.New("the body is not one JSON value")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// refuse answers as the module does.
func refuse(w http.ResponseWriter, status int, reason string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if status == http.StatusRequestEntityTooLarge {
		w.Header().Set("Connection", "close")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": reason})
}

// contained runs something that may panic or touch a page of the mapped database which is
// not in its file any more; either becomes an error.
func contained(run func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("it panicked: %v", cause)
		}
	}()
	return run()
}
