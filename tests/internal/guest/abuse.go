package guest

// The commands that do harm.
const (
	Kill  = "kill"  // nothing; sends PID the signal of that NUMBER
	Fill  = "fill"  // int64: how many bytes went into the file named before its file system was full
	Eat   = "eat"   // string: how a child ended that takes memory for ever
	Bomb  = "bomb"  // nothing; processes that fork for ever are left behind
	Gorge = "gorge" // no answer; the child of Eat
)
