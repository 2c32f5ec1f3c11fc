package bench

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"hapax/image/qemu"
	"hapax/tests/internal/guest"
	"hapax/tests/internal/vm"
)

// plugLimit is how long a guest may take to give a device up.
const plugLimit = 2 * time.Minute

// disturb lets devices come and go after hapax has settled: as if processors were added, and for real.
func (c Case) disturb(ctx context.Context, v *vm.VM, client guest.Client) error {
	if c.Pokes > 0 {
		if err := client.Ask(guest.Pokes, strconv.Itoa(c.Pokes), nil); err != nil {
			return err
		}
	}
	for i := range c.HotPlugs {
		if err := c.plug(ctx, v, client, i); err != nil {
			return fmt.Errorf("hot-plug %d: %w", i, err)
		}
	}
	if c.Pokes+c.HotPlugs == 0 {
		return nil
	}
	return client.Ask(guest.Quiet, "", nil)
}

// plug adds a device and removes it once the guest has a driver for it.
func (c Case) plug(ctx context.Context, v *vm.VM, client guest.Client, i int) error {
	ctx, cancel := context.WithTimeout(ctx, plugLimit)
	defer cancel()
	id := "plug" + strconv.Itoa(i)
	device := map[string]any{"driver": "virtio-rng-pci", "id": id, "bus": qemu.HotplugPort(i % qemu.HotplugPorts)}
	before, err := c.bound(client)
	if err != nil {
		return err
	}
	if err := v.QMP.AddDevice(ctx, device); err != nil {
		return err
	}
	for {
		now, err := c.bound(client)
		if err != nil {
			return err
		}
		if now > before {
			break
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("no driver was bound: %w", err)
		}
	}
	return v.QMP.RemoveDevice(ctx, id)
}

// bound returns how many devices the driver of the plugged ones has.
func (c Case) bound(client guest.Client) (int, error) {
	var names []string
	err := client.Ask(guest.List, "/sys/bus/virtio/drivers/virtio_rng", &names)
	return len(names), err
}
