#include <stdio.h>

int main(void) {
    puts("hello from a system extension");
    return 0;
}
