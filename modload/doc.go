// Package modload brings kernel modules into the kernel, each exactly once.
//
// Whoever wants a module (a uevent, the coldplug walk, a command line, a
// request of the kernel itself) asks one [Scheduler]. The Scheduler resolves
// the request through the module index, enters every module that it needs
// into one table, and hands a module to its [LoadFunc] when all its hard
// dependencies are live. A request for a module that is already in the table
// joins the record that is there.
//
// The production LoadFunc is [Kernel.Load], which holds the only
// finit_module(2) call of the whole program.
//
// # States
//
// A record moves along these arrows and no others:
//
//	waiting ──> queued ──> inserting ──> live ──> removing ──> removed ──> waiting (asked for again)
//	   │           │           ├───────> refused ──> waiting (a new device, see Request)
//	   └───────────┴───────────┴───────> failed  ──> waiting (the same if a dependency refused; a new index; Call.Again)
//
// Built-in modules and modules that were in the kernel before start out as
// builtin and live. Refused means that the module's init function said no,
// which is how a driver answers that the hardware is not for it. Failed is
// everything else, a failed dependency included: such a module is not tried
// again before the index changes or a person asks for it. Where the loads that run beside it may be to blame, as for a lack of
// memory, an inserting module goes back to waiting until they have ended, once
// (see Result).
//
// # Order
//
// Hard dependencies have to be live before their dependant is inserted.
// Modules named by "softdep pre:" have to have ended, however they ended;
// those named by "post:" are requested once the module is live. A soft
// dependency that would close a circle is dropped, so the graph of waiting
// modules never has one.
//
// # Requests of the kernel
//
// An init function may make the kernel request another module and wait for it.
// So a [Call] of the kernel takes no place among the workers, nor does what it
// needs, and the graph of who waits for whom has calls as nodes, too: a wait
// that leads back to its asker is broken off (circle.go).
//
// An install command has a record of its own beside that of its module; a
// modprobe inside of it makes Calls whose Asker is the module.
package modload
