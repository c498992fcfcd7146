-module(plain).
-export([new/2, length/1]).

new(X, Y) ->
    {X, Y}.

length({X, Y}) ->
    case X of
        0 -> Y;
        _ -> root(X * X + Y * Y)
    end.

root(N) ->
    math:sqrt(N).

is_origin(Point) ->
    Point =:= new(0, 0).
