module decentralice.invalid/tools

go 1.26.2

require (
	chainguard.dev/apko v1.2.39
	chainguard.dev/melange v0.59.1
)

// apko pins v0.3.2-0.20260804074615-52cc42c5291c, a pseudo-version, which a module proxy may
// not serve; only `format: erofs` and `apko erofs` use it, and we use neither.
replace github.com/erofs/go-erofs => github.com/erofs/go-erofs v0.3.1
