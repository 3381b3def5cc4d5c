package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/coreos/go-systemd/v22/activation"
)

// passedListener is the one listening socket that systemd passed, nil if it passed none.
//
// https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
func passedListener() (net.Listener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("taking systemd's socket: %w", err)
	}
	switch {
	case len(passed) == 0:
		return nil, nil
	case len(passed) > 1:
		return nil, fmt.Errorf("systemd passed %d sockets: the socket unit must have "+
			"one ListenStream", len(passed))
	case passed[0] == nil:
		return nil, errors.New("systemd passed something that is not a listening stream socket")
	}
	return passed[0], nil
}

// requireLoopback refuses an address, of the setting or socket that has a name, which others
// could reach, or a port that nobody knows: the service has no authentication.
func requireLoopback(name, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s %q is not HOST:PORT", name, address)
	}
	if !isLoopback(host) {
		return fmt.Errorf("%s %q is not a loopback address: anyone who reaches the service "+
			"may use it, so have a loopback address or a Unix socket", name, address)
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return fmt.Errorf("%s %q has no port between 1 and 65535", name, address)
	}
	return nil
}

// requireLocal refuses a place to listen that others could reach: systemd's socket, or the
// configuration's address if there is none.
func requireLocal(passed net.Listener, address string) error {
	if passed == nil {
		return requireLoopback("api_host", address)
	}
	if passed.Addr().Network() == "unix" {
		return nil
	}
	return requireLoopback("systemd's socket", passed.Addr().String())
}
