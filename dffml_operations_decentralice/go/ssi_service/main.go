// Command ssi-service runs TBD's Self-Sovereign Identity service as a systemd service.
//
// It is the published module with what its own main lacks: the service key outlives a
// restart (the module's start overwrites it), the listening socket, the state's directory
// and the keystore's password may come from systemd, readiness is told to it, requests of
// other origins and large bodies are refused, health is that of the database, no secret is
// logged, and a start which could only lose data or open a port to others is refused with
// its reason: exit status 78 if it takes a person to mend that, else 1.
//
// https://pkg.go.dev/github.com/tbd54566975/ssi-service@v0.0.3
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/TBD54566975/ssi-sdk/schema"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/gin-gonic/gin"
	"github.com/sirupsen/logrus"
	"github.com/tbd54566975/ssi-service/config"
	"github.com/tbd54566975/ssi-service/pkg/server"
	"go.etcd.io/bbolt"
)

// exitConfig is EX_CONFIG of sysexits.h; the units do not start the service again after it.
const exitConfig = 78

// passing are causes that may be gone at another start.
var passing = []error{
	errInUse, bbolt.ErrTimeout, syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EIO,
	syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EAGAIN,
}

// refusal is an error in the configuration or in the state.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ssi-service:", oneLine(err))
		os.Exit(exitStatus(err))
	}
}

func exitStatus(err error) int {
	passes := slices.ContainsFunc(passing, func(cause error) bool { return errors.Is(err, cause) })
	if errors.As(err, new(refusal)) && !passes {
		return exitConfig
	}
	return 1
}

// oneLine keeps the journal's rule of one message a line.
func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}

func run() error {
	setUpLog()
	this, err := checked()
	if err != nil {
		return refusal{err}
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	var srv *server.SSIServer
	err = contained(func() (err error) {
		srv, err = server.NewSSIServer(stop, *this.config)
		return err
	})
	if err != nil {
		return refusal{fmt.Errorf("starting services: %w", err)}
	}
	gin.DisableConsoleColor() // which the module has forced: the log is no terminal
	if err := this.keys.keep(srv.GetStorage()); err != nil {
		return fmt.Errorf("keeping the service key: %w", err)
	}
	if this.listener == nil {
		if this.listener, err = net.Listen("tcp", this.config.Server.APIHost); err != nil {
			return err
		}
	}
	return serve(srv, this.listener, stop)
}

// start is what a service is made of.
type start struct {
	listener net.Listener // systemd's; nil if it passed none
	config   *config.SSIServiceConfig
	keys     serviceKey
}

// checked is a start with a configuration that can be used, and a state that is whole.
func checked() (this start, err error) {
	if this.listener, err = passedListener(); err != nil {
		return this, err
	}
	this.config, err = loadConfig(os.Getenv(config.ConfigPath.String()))
	if err != nil {
		return this, err
	}
	if err := requireLocal(this.listener, this.config.Server.APIHost); err != nil {
		return this, err
	}
	keystore := &this.config.Services.KeyStoreConfig
	if err := setPassword(keystore, os.Getenv("CREDENTIALS_DIRECTORY")); err != nil {
		return this, err
	}
	database, err := placeDatabase(&this.config.Services, os.Getenv("STATE_DIRECTORY"))
	if err != nil {
		return this, err
	}
	if this.config.Server.EnableSchemaCaching {
		if err := useLocalSchemas(); err != nil {
			return this, err
		}
	}
	this.keys = serviceKeyOf(database, keystore.MasterKeyURI)
	return this, this.keys.check()
}

// useLocalSchemas has the schemas of presentations and manifests taken from the program
// itself; else the module fetches them, and has no network.
func useLocalSchemas() error {
	local, err := schema.GetAllLocalSchemas()
	if err != nil {
		return fmt.Errorf("loading schemas: %w", err)
	}
	loader, err := schema.NewCachingLoader(local)
	if err != nil {
		return fmt.Errorf("loading schemas: %w", err)
	}
	loader.EnableHTTPCache()
	return nil
}

// setUpLog never goes below info, whatever the configuration says: debug logs private keys.
func setUpLog() {
	logrus.SetOutput(os.Stdout)
	logrus.SetFormatter(&logrus.TextFormatter{DisableColors: true, DisableTimestamp: true})
	logrus.SetLevel(logrus.InfoLevel)
}

// serve answers until a signal comes, then finishes the requests in flight.
func serve(srv *server.SSIServer, listener net.Listener, stop <-chan os.Signal) error {
	srv.Handler = guarded(srv.Handler, newProbe(srv.GetStorage()))
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(listener) }()
	ready := fmt.Sprintf("%s\nSTATUS=Serving at %s", daemon.SdNotifyReady, listener.Addr())
	if _, err := daemon.SdNotify(false, ready); err != nil {
		return fmt.Errorf("telling systemd: %w", err)
	}
	select {
	case err := <-failed:
		return err
	case <-stop:
		_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) // nothing depends on it
		ctx, cancel := context.WithTimeout(context.Background(), srv.ShutdownTimeout)
		defer cancel()
		return srv.Shutdown(ctx)
	}
}
