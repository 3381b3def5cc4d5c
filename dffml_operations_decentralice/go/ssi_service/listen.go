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

// requireLoopback refuses an address that others could reach, or a port that nobody knows:
// the service has no authentication.
func requireLoopback(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("api_host %q is not HOST:PORT", address)
	}
	if !isLoopback(host) {
		return fmt.Errorf("api_host %q is not a loopback address: anyone who reaches the "+
			"service may use it, so let systemd pass a socket instead", address)
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return fmt.Errorf("api_host %q has no port between 1 and 65535", address)
	}
	return nil
}
