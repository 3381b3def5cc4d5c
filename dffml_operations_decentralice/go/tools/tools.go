//go:build tools

// Package tools keeps `go mod tidy` from dropping the program that go.mod pins. Build all by
// `go install -mod=readonly ./apko-tree chainguard.dev/melange` in this folder.
package tools

import _ "chainguard.dev/melange"
