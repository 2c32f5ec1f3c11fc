package network

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// A client speaks DHCP on one link. A call sends its message again until there is an answer that can be used, or ctx ends.
type client interface {
	// obtain asks all servers for a lease, and for the address last if that is valid.
	obtain(ctx context.Context, last netip.Addr) (lease, error)
	// prolong asks the server of a lease to extend it, or any server if anyone is true.
	prolong(ctx context.Context, l lease, anyone bool) (lease, error)
}

// errRefused is the server's answer that a lease does not hold any more.
var errRefused = errors.New("the server refuses to prolong the lease")

const (
	attempt    = 30 * time.Second // of one try to obtain a lease
	firstPause = time.Second      // between two of them; it doubles
	lastPause  = time.Minute
)

// keep holds a lease on one link until ctx ends. It tells each lease that it gets, renewed ones as well, to bound, and calls lost
// when one may not be used any more. A value from again says that the link was away and is back: the lease is confirmed at once,
// for it may be another network. It calls neither function any more when ctx has ended.
func keep(ctx context.Context, c client, again <-chan struct{}, logf func(format string, args ...any), bound func(lease), lost func()) {
	var last netip.Addr
	for pause := firstPause; ctx.Err() == nil; {
		sent := time.Now()
		l, err := within(ctx, attempt, func(ctx context.Context) (lease, error) { return c.obtain(ctx, last) })
		if err != nil {
			if ctx.Err() == nil {
				logf("no lease: %v; trying again in %v", err, pause)
			}
			sleep(ctx, pause, again)
			pause = min(2*pause, lastPause)
			continue
		}
		pause = firstPause
		last = l.prefix.Addr()
		bound(l)
		err = hold(ctx, c, l, sent, again, logf, bound)
		if ctx.Err() != nil {
			return
		}
		logf("%s is lost: %v", l.prefix.Addr(), err)
		lost()
	}
}

// hold prolongs a lease whose request was sent at the time given, until that is refused or the lease ends, and returns why.
func hold(ctx context.Context, c client, l lease, sent time.Time, again <-chan struct{}, logf func(string, ...any), bound func(lease)) error {
	confirm := sleep(ctx, time.Until(sent.Add(l.renew)), again)
	for ctx.Err() == nil {
		now := time.Now()
		left := sent.Add(l.expire).Sub(now)
		if left <= 0 {
			return errors.New("it has ended, and no server has prolonged it")
		}
		// In the second phase, and where the network may be another one, any server will do.
		anyone := confirm || now.Sub(sent) >= l.rebind
		limit := left
		if !anyone {
			limit = sent.Add(l.rebind).Sub(now)
		}
		next, err := within(ctx, min(limit, attempt), func(ctx context.Context) (lease, error) { return c.prolong(ctx, l, anyone) })
		if confirm && err != nil && !errors.Is(err, errRefused) && ctx.Err() == nil {
			// A server that does not know the address may keep silent (RFC 2131, section 4.3.2): it is asked for one of its own.
			// Until there is an answer the old one is used, as section 3.2 allows.
			now = time.Now()
			next, err = within(ctx, attempt, func(ctx context.Context) (lease, error) { return c.obtain(ctx, l.prefix.Addr()) })
		}
		switch {
		case err == nil:
			l, sent = next, now
			bound(l)
			confirm = sleep(ctx, time.Until(sent.Add(l.renew)), again)
		case errors.Is(err, errRefused):
			return err
		case ctx.Err() == nil && confirm:
			logf("%s is not confirmed yet: %v", l.prefix.Addr(), err)
			sleep(ctx, min(lastPause, time.Until(sent.Add(l.expire))), again)
		case ctx.Err() == nil:
			logf("%s is not prolonged yet: %v", l.prefix.Addr(), err)
			// RFC 2131, section 4.4.5: half of the time that is left in the phase, but a minute at least, or all of it.
			rest := limit - time.Since(now)
			confirm = sleep(ctx, max(rest/2, min(rest, time.Minute)), again)
		}
	}
	return ctx.Err()
}

// within calls f with a limit of time.
func within(ctx context.Context, limit time.Duration, f func(context.Context) (lease, error)) (lease, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return f(ctx)
}

// sleep waits for d, or until again has something, which it reports, or ctx ends.
func sleep(ctx context.Context, d time.Duration, again <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-again:
		return true
	}
	return false
}
