package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// A Mark is a position in the sequence of events.
type Mark int

// Mark returns the position after the last event so far.
func (c *Client) Mark() Mark {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Mark(len(c.events))
}

// WaitEvent waits for the first event after since that has this name and whose data match accepts (nil: any).
func (c *Client) WaitEvent(ctx context.Context, since Mark, name string, match func(data json.RawMessage) bool) (Event, error) {
	for at := int(since); ; {
		c.mu.Lock()
		fresh, news := c.events[at:], c.news
		c.mu.Unlock()
		for _, e := range fresh {
			if e.Name == name && (match == nil || match(e.Data)) {
				return e, nil
			}
		}
		at += len(fresh)
		select {
		case <-news:
		case <-c.done:
			// An event may have come between the look and the end.
			if int(c.Mark()) == at {
				return Event{}, fmt.Errorf("waiting for %s: %w", name, c.fail())
			}
		case <-ctx.Done():
			return Event{}, fmt.Errorf("qmp: waiting for %s: %w", name, context.Cause(ctx))
		}
	}
}

// AddDevice plugs a device in. Properties are those of -device, with "driver" and "id" among them; a device of PCI
// Express needs "bus", the name of an empty root port.
func (c *Client) AddDevice(ctx context.Context, properties map[string]any) error {
	return c.Execute(ctx, "device_add", properties, nil)
}

// RemoveDevice asks the guest to give the device up and waits until it has done so (DEVICE_DELETED).
// A guest that has not enumerated the slot yet ignores the request: then only ctx ends the wait.
func (c *Client) RemoveDevice(ctx context.Context, id string) error {
	since := c.Mark()
	if err := c.Execute(ctx, "device_del", map[string]string{"id": id}, nil); err != nil {
		return err
	}
	_, err := c.WaitEvent(ctx, since, "DEVICE_DELETED", func(data json.RawMessage) bool {
		var d struct {
			Device string `json:"device"` // absent for a device without id
		}
		return json.Unmarshal(data, &d) == nil && d.Device == id
	})
	return err
}

// AddBlock makes a block backend of the given node options; "node-name" is what a device names as its "drive".
func (c *Client) AddBlock(ctx context.Context, options map[string]any) error {
	return c.Execute(ctx, "blockdev-add", options, nil)
}

// PowerDown presses the power button. What happens then is the guest's decision.
func (c *Client) PowerDown(ctx context.Context) error {
	return c.Execute(ctx, "system_powerdown", nil, nil)
}

// Quit ends QEMU at once, which may take its answer with it.
func (c *Client) Quit(ctx context.Context) error {
	err := c.Execute(ctx, "quit", nil, nil)
	if errors.Is(err, errEnded) {
		return nil
	}
	return err
}
