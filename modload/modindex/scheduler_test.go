package modindex_test

import (
	"hapax/modload"
	"hapax/modload/modindex"
)

// A Scheduler takes a View in the place of an Index.
var (
	_ modload.Index = (*modindex.Index)(nil)
	_ modload.Index = (*modindex.View)(nil)
)
