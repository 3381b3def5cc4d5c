//go:build tools

// Package tools keeps `go mod tidy` from dropping the programs that go.mod pins. Build them
// by `go install -mod=readonly chainguard.dev/apko chainguard.dev/melange` in this folder.
package tools

import (
	_ "chainguard.dev/apko"
	_ "chainguard.dev/melange"
)
