// SPDX-License-Identifier: GPL-2.0
/*
 * A module whose init function does what its parameters say. It is built under
 * many names, so that one guest can have many of it; those that are to depend
 * on each other are built with PROVIDES or NEEDS set to the name of a symbol,
 * and those that are to have aliases with ALIASES set to their declarations.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/kmod.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

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

static char *request;
module_param(request, charp, 0444);
MODULE_PARM_DESC(request, "comma list of modules that the init function asks for, one after the other");

static bool in_kthread;
module_param_named(kthread, in_kthread, bool, 0444);
MODULE_PARM_DESC(kthread, "the init function has another thread ask, and waits for it");

#ifdef PROVIDES
int PROVIDES;
EXPORT_SYMBOL_GPL(PROVIDES);
#endif

#ifdef NEEDS
extern int NEEDS;
#else
#define NEEDS 0
#endif

/* ask makes the requests and logs each answer. */
static void ask(void)
{
	char *names = kstrdup(request, GFP_KERNEL);
	char *rest = names, *name;

	while ((name = strsep(&rest, ","))) {
		ktime_t begun = ktime_get();
		int answer = request_module("%s", name);

		pr_info("asked for %s: %d after %lld ms\n", name, answer,
			ktime_ms_delta(ktime_get(), begun));
	}
	kfree(names);
}

static int asker(void *done)
{
	ask();
	kthread_complete_and_exit(done, 0);
}

static void ask_in_kthread(void)
{
	DECLARE_COMPLETION_ONSTACK(done);

	if (!IS_ERR(kthread_run(asker, &done, "hx_asker")))
		wait_for_completion(&done);
}

static int __init test_init(void)
{
	if (oops)
		BUG();
	while (hang)
		msleep(1000);
	msleep(ms);
	if (request && in_kthread)
		ask_in_kthread();
	else if (request)
		ask();
	return ret + NEEDS;
}
module_init(test_init);

static void __exit test_exit(void)
{
}
module_exit(test_exit);

#ifdef ALIASES
ALIASES
#endif

MODULE_DESCRIPTION("hapax test module");
MODULE_LICENSE("GPL");
