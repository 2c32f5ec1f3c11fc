// Package control is the engine's socket, through which everything outside the
// engine asks for modules: the helper that the kernel starts for
// request_module(9), modprobe(8) and its kin, and hapaxctl. The guard has such a
// socket, too, for services.
//
// # The protocol
//
// The socket is a SOCK_SEQPACKET one at [Path], mode 0600, and the engine takes
// no peer but root. A client sends one packet and gets one or more back, of
// which the last is an end packet; a connection that closes before it has
// brought no answer, and the request may be sent again: none of them does
// harm when it is done twice. A client that goes away before its end packet
// gives its wait up, and nothing else: a load that has begun goes on.
//
// Packets consist of fields that are separated by NUL bytes. A request is
//
//	hapax/1  VERB  KEY=VALUE...
//
// in at most [MaxRequest] bytes. The verbs and their keys:
//
//	load    query  params  flags  asker  blacklist=1  ignore-install=1
//	remove  name   flags
//	settle
//	status
//	why     name
//	trace
//	reload
//
// The guard has a socket of its own at [GuardPath], so that services can be
// asked for when the engine is dead. It is of the same kind, with these verbs:
//
//	start    name
//	stop     name
//	restart  name
//	services name   (all of them without it)
//	log      name
//
// Flags are those of finit_module(2) and delete_module(2), in decimal. A key
// that is left out is empty or 0. A verb or a key that the engine does not know
// ends in an error, and so does another version than 1. The answers:
//
//	module  NAME STATE NEW WORD ERRNO TEXT   (load: one for each module that the query stands for, in order)
//	json    BYTES                            (status, services: parts of one document; why, trace: one module each)
//	text    BYTES                            (log: parts of one text)
//	end     WORD ERRNO TEXT                  (the last one)
//
// NEW is 1 if the module was not usable before, else 0. WORD is empty for
// success; otherwise it says what went wrong (see [Error]), ERRNO is the number
// of the system's error if there was one, else 0, and TEXT is for people.
//
// # Bounds
//
// A request has to arrive within [requestPatience]. Of the clients whose request
// has not arrived yet, [maxLobby] may stay: whoever has waited longest has to
// go when another one comes. [maxWaiting] clients may wait for a load, a
// removal, the settling or the trace; further ones are told "busy" and may try
// again. At the guard's socket both numbers are smaller. None of this applies to the helpers of the kernel: there are at most 50
// of them (MAX_KMOD_CONCURRENT in kernel/module/kmod.c), each holds a thread of
// the kernel, and each is answered.
package control

import (
	"context"
	"time"

	"hapax/modload"
)

// Path is where the engine listens.
const Path = "/run/hapax/control"

// MaxRequest is the size of the largest request in bytes. The kernel takes a
// page of parameters.
const MaxRequest = 16 << 10

// version begins every request.
const version = "hapax/1"

const (
	maxLobby   = 64  // clients whose request has not come yet
	maxWaiting = 192 // clients that wait, those of the kernel not counted

	requestPatience = 5 * time.Second // for a client to send its request
	answerPatience  = 5 * time.Second // for a client to make room for the next packet of an answer

	maxText = 4 << 10  // bytes of a text or a name in an answer
	maxPart = 32 << 10 // bytes of a document in one packet
)

// A Backend answers the requests. Its methods are called concurrently, and
// those with a context have to return soon after it has ended.
type Backend interface {
	// Do and Remove are those of modload.Scheduler.
	Do(ctx context.Context, c modload.Call) ([]modload.Outcome, error)
	Remove(ctx context.Context, name string, flags int) error

	// Settle waits until the engine has settled.
	Settle(ctx context.Context) error

	// Status returns what hapaxctl status prints, a value for tojson.Marshal.
	Status() any

	// Why returns what the engine knows about a module that was asked for.
	Why(name string) (modload.Module, bool)

	// Trace returns a channel with every module that ends from now on. It is
	// closed when the context has ended. Whoever sends must not wait for a
	// receiver that has fallen behind.
	Trace(ctx context.Context) <-chan modload.Module

	// Reload reads the module index and its configuration again.
	Reload() error
}

// Stats count what came in through the socket.
type Stats struct {
	Clients int `json:"clients"` // connections
	Upcalls int `json:"upcalls"` // of these, helpers of the kernel that sent a request
	Denied  int `json:"denied"`  // of these, peers other than root
	Busy    int `json:"busy"`    // of these, sent away because there were too many or no request came
	Bad     int `json:"bad"`     // of these, gone or with something that is no request
	Waiting int `json:"waiting"` // at present, with a request that is not answered yet
}
