//go:build !faultinject

// Package fault lets tests end, stop or hang this program at named points of its
// way. Only a build with -tags faultinject has them; in any other At is nothing.
package fault

// At is the point of that name.
func At(string) {}
