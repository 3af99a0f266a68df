// A driver for nothing: it says that it is there.
#include <linux/init.h>
#include <linux/module.h>

static int __init hello_init(void)
{
	pr_info("hello_driver: loaded\n");
	return 0;
}

static void __exit hello_exit(void)
{
	pr_info("hello_driver: gone\n");
}

module_init(hello_init);
module_exit(hello_exit);

MODULE_DESCRIPTION("Says that it was loaded from a system extension");
MODULE_LICENSE("Dual MIT/GPL");
