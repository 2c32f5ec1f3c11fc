//go:build !nosingleflight

package modload

// singleFlight has all requests for a module share one record. It is false in
// the negative control of the storm bench alone, which shows that its zero can
// be something else.
const singleFlight = true
