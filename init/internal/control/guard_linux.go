package control

import (
	"context"
	"fmt"
	"os"

	"hapax/init/internal/tojson"
)

// GuardPath is where the guard, PID 1, listens in an image that has services.
const GuardPath = "/run/hapax/guard"

// Bounds on the guard's socket. Nobody but people and their scripts asks there.
const (
	guardLobby   = 8
	guardWaiting = 32
)

// A Guard answers the requests about services. Its methods are called
// concurrently, and have to return soon after their context has ended.
type Guard interface {
	// Command starts, stops or restarts a service, and waits until it is ready or
	// has stopped. verb is one of "start", "stop" and "restart".
	Command(ctx context.Context, verb, name string) error

	// Services returns what is known of one service, or of all if name is "": a list
	// for tojson.Marshal.
	Services(ctx context.Context, name string) (any, error)

	// Log returns the last lines that a service has written.
	Log(ctx context.Context, name string) ([]byte, error)
}

// NewGuardServer returns a Server for the guard's socket. What should not happen
// is reported to warnf, at most once per second.
func NewGuardServer(g Guard, warnf func(format string, args ...any)) *Server {
	s := newServer(warnf, guardLobby, guardWaiting)
	s.answers, s.perform = verb.guards, func(ctx context.Context, conn *os.File, _ peer, r request) error {
		return performGuard(ctx, g, conn, r)
	}
	return s
}

func performGuard(ctx context.Context, g Guard, conn *os.File, r request) error {
	switch r.verb {
	case verbServices:
		list, err := g.Services(ctx, r.name)
		if err != nil {
			return err
		}
		return sendParts(conn, kindJSON, tojson.Marshal(list))
	case verbLog:
		text, err := g.Log(ctx, r.name)
		if err != nil {
			return err
		}
		return sendParts(conn, kindText, text)
	}
	return g.Command(ctx, string(r.verb), r.name)
}

// GuardClient returns a Client that asks the guard. Services, ServiceLog and
// Service are for it alone, and the others are not for it.
func GuardClient() *Client { return &Client{Path: GuardPath, absent: ErrNoGuard} }

// Service has a service started, stopped or restarted: command is "start", "stop" or
// "restart". It waits until the service is ready or has stopped.
func (c *Client) Service(command, name string) error {
	r := request{verb: verb(command), name: name}
	if !r.verb.commands() {
		return fmt.Errorf("control: %q is no command for a service", command)
	}
	return c.ask(r, nil, nil)
}

// Services returns what the guard knows of a service, or of all if name is "", a
// JSON document.
func (c *Client) Services(name string) ([]byte, error) {
	return c.document(request{verb: verbServices, name: name})
}

// ServiceLog returns the last lines that a service has written.
func (c *Client) ServiceLog(name string) ([]byte, error) {
	return c.document(request{verb: verbLog, name: name})
}
