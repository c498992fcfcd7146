import math


class Point:
    def __init__(self, x, y):
        self.x = x
        self.y = y

    def length(self):
        return math.sqrt(self.x * self.x + self.y * self.y)

    @classmethod
    def origin(cls):
        return cls(0, 0)


def distance(a, b):
    if a == b:
        return 0
    return Point(a.x - b.x, a.y - b.y).length()


async def half(n):
    return n / 2
