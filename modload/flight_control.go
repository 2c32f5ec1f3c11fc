//go:build nosingleflight

package modload

const singleFlight = false
