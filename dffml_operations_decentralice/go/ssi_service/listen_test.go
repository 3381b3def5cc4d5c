package main

import (
	"errors"
	"net"
	"testing"
)

func TestRequireLoopback(t *testing.T) {
	for _, address := range []string{
		"127.0.0.1:3000", "127.0.0.2:1", "[::1]:65535", "localhost:8080", "[::ffff:127.0.0.1]:80",
	} {
		if err := requireLoopback("api_host", address); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	rejected := map[string]string{
		"":                   "not HOST:PORT",
		"127.0.0.1":          "not HOST:PORT",
		"::1:3000":           "not HOST:PORT",
		":3000":              "not a loopback address",
		"0.0.0.0:3000":       "not a loopback address",
		"[::]:3000":          "not a loopback address",
		"192.0.2.1:3000":     "not a loopback address",
		"localhost.evil:80":  "not a loopback address",
		"127.1:3000":         "not a loopback address",
		"127.0.0.1:0":        "no port",
		"127.0.0.1:":         "no port",
		"127.0.0.1:http":     "no port",
		"127.0.0.1:65536":    "no port",
		"127.0.0.1:-1":       "no port",
		"[::1%lo]:3000":      "not a loopback address",
		"unix:/run/ssi.sock": "not a loopback address",
	}
	for address, message := range rejected {
		if err := requireLoopback("api_host", address); !says(err, message) {
			t.Errorf("%q: got %v", address, err)
		}
	}
}

func TestRequireLocal(t *testing.T) {
	const good, bad = "127.0.0.1:3000", "0.0.0.0:3000"
	tests := []struct{ network, listening, configured, message string }{
		{"", "", good, ""},
		{"", "", bad, "api_host"},
		{"tcp", "127.0.0.1:0", bad, ""},
		{"tcp", "[::1]:0", bad, ""},
		{"tcp", "0.0.0.0:0", good, "systemd's socket"},
		{"tcp", ":0", good, "systemd's socket"},
		{"unix", "@" + t.TempDir(), bad, ""},
	}
	for _, test := range tests {
		var passed net.Listener
		if test.network != "" {
			listening, err := net.Listen(test.network, test.listening)
			if err != nil {
				t.Fatal(err)
			}
			defer listening.Close()
			passed = listening
		}
		if err := requireLocal(passed, test.configured); !says(err, test.message) {
			t.Errorf("%v: got %v", test, err)
		}
	}
}

func TestNoPassedListener(t *testing.T) {
	t.Setenv("LISTEN_PID", "")
	if listener, err := passedListener(); listener != nil || err != nil {
		t.Errorf("got %v, %v", listener, err)
	}
}

func TestOneLine(t *testing.T) {
	if got := oneLine(errors.New("a\n  b\t c\n")); got != "a b c" {
		t.Errorf("got %q", got)
	}
}
