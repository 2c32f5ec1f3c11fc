// SPDX-License-Identifier: GPL-2.0
/*
 * A module whose init function does what its parameters say. It is built under
 * many names, so that one guest can have many of it; those that are to depend
 * on each other are built with PROVIDES or NEEDS set to the name of a symbol.
 */
#include <linux/delay.h>
#include <linux/module.h>

static unsigned int ms;
module_param(ms, uint, 0444);
MODULE_PARM_DESC(ms, "milliseconds that the init function takes");

static bool hang;
module_param(hang, bool, 0444);
MODULE_PARM_DESC(hang, "the init function never returns");

static bool oops;
module_param(oops, bool, 0444);
MODULE_PARM_DESC(oops, "the init function runs into a bug");

static int ret;
module_param(ret, int, 0444);
MODULE_PARM_DESC(ret, "what the init function returns");

#ifdef PROVIDES
int PROVIDES;
EXPORT_SYMBOL_GPL(PROVIDES);
#endif

#ifdef NEEDS
extern int NEEDS;
#else
#define NEEDS 0
#endif

static int __init test_init(void)
{
	if (oops)
		BUG();
	while (hang)
		msleep(1000);
	msleep(ms);
	return ret + NEEDS;
}
module_init(test_init);

MODULE_DESCRIPTION("hapax test module");
MODULE_LICENSE("GPL");
