#!/usr/bin/env python3
"""A parser, for tests.

# not a comment
"""
import asyncio


class Token:
    """One token."""

    kinds = [k for k in ("a", "b") if k or True]

    def __init__(self, text):
        self.text = text

    @property
    def size(self):  # trailing
        return len(self.text) if self.text else 0

    class Meta:
        @staticmethod
        @wraps(
            print,
        )
        def describe(): return "# still a string"


type Tokens[T] = list[T]


def scan(text, *, strict=False):
    # A comment,
    # and another.
    def flush(part):
        if part and not part.isspace():
            return Token(part)
        return None

    out = []
    for char in text:
        while strict:
            break
        else:
            continue
        try:
            out.append(flush(char))
        except (ValueError, TypeError):
            pass
        except OSError as error:
            raise error
        else:
            pass
        finally:
            out.sort(key=lambda t: t.size if t else -1)
    return out


async def classify(token):
    match token:
        case "a" | "b":
            return 1
        case int(n) if n > 0 or n < -5:
            return 2
        case None:
            return 3
        case _:
            pass
    async with asyncio.Lock():
        async for piece in token:
            yield {x: y for x in piece for y in x if y}

    if token:
        return
    elif token is None:
        assert token
