#include "scopes.h"

int main(void)
{
    return first(2) + second(3) == sink;
}
