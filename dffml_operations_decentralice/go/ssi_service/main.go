// Command ssi-service runs TBD's Self-Sovereign Identity service as a systemd service.
//
// It is the published module with what its own main lacks: the service key outlives a
// restart (the module's start overwrites it), the listening socket may come from systemd,
// readiness is told to systemd, a request's body is bounded, no secret is logged, and a
// start which could only lose data or open a port to others is refused with its reason.
//
// https://pkg.go.dev/github.com/tbd54566975/ssi-service@v0.0.3
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"
	"github.com/tbd54566975/ssi-service/config"
	"github.com/tbd54566975/ssi-service/pkg/server"
)

// maxBody is in bytes; the largest credential issued in practice is a few KiB.
const maxBody = 1 << 20

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ssi-service:", oneLine(err))
		os.Exit(1)
	}
}

// oneLine keeps the journal's rule of one message a line.
func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}

func run() error {
	setUpLog()
	passed, err := passedListener()
	if err != nil {
		return err
	}
	cfg, err := loadConfig(os.Getenv(config.ConfigPath.String()))
	if err != nil {
		return err
	}
	if passed == nil {
		if err := requireLoopback(cfg.Server.APIHost); err != nil {
			return err
		}
	}
	keys, err := serviceKeyOf(cfg.Services)
	if err != nil {
		return err
	}
	if err := keys.check(); err != nil {
		return err
	}

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	srv, err := server.NewSSIServer(stop, *cfg)
	if err != nil {
		return fmt.Errorf("starting services: %w", err)
	}
	if err := keys.keep(srv.GetStorage()); err != nil {
		return fmt.Errorf("keeping the service key: %w", err)
	}
	if passed == nil {
		if passed, err = net.Listen("tcp", cfg.Server.APIHost); err != nil {
			return err
		}
	}
	return serve(srv, passed, stop)
}

// setUpLog never goes below info, whatever the configuration says: debug logs private keys.
func setUpLog() {
	logrus.SetOutput(os.Stdout)
	logrus.SetFormatter(&logrus.TextFormatter{DisableColors: true, DisableTimestamp: true})
	logrus.SetLevel(logrus.InfoLevel)
}

// serve answers until a signal comes, then finishes the requests in flight.
func serve(srv *server.SSIServer, listener net.Listener, stop <-chan os.Signal) error {
	srv.Handler = http.MaxBytesHandler(srv.Handler, maxBody)
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(listener) }()
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("telling systemd: %w", err)
	}
	select {
	case err := <-failed:
		return err
	case <-stop:
		ctx, cancel := context.WithTimeout(context.Background(), srv.ShutdownTimeout)
		defer cancel()
		return srv.Shutdown(ctx)
	}
}
