%% A queue, for tests.
-module(sample).
-behaviour(gen_server).
-export([new/1, push/2, push/3, drain/1]).

-record(queue, {name :: atom(), items = [] :: list()}).
-type queue() :: #queue{}.
-opaque pair(A) :: {A, A}.
-define(LIMIT, 10).
-define(FULL(N), case N > ?LIMIT of true -> full; false -> ok end).

-callback weigh(Item :: any()) -> integer().

-spec new(atom()) -> queue().
new(Name) -> #queue{name = Name}.

push(Item, Queue) ->
    push(Item, 1, Queue). % the default

push(_, 0, Queue) ->
    Queue;
%% a comment between two clauses
push(Item, N, #queue{items = Items} = Queue) when N > 0, N < 5; N =:= 7 ->
    push(Item, N - 1, Queue#queue{items = [Item | Items]});
push(_, _, _) ->
    error("% not a comment").

drain(Queue) ->
    try
        Weights = [weigh(X) || X <- Queue#queue.items, X =/= skip],
        Sort = fun (A, B) when A < B -> true;
                   (_, _) -> false
               end,
        lists:sort(Sort, Weights)
    of
        [] -> none;
        Sorted -> hd(Sorted)
    catch
        error:badarg -> bad;
        throw:_ -> thrown
    after
        flush()
    end.

weigh(X) ->
    if
        X > 10, X < 20 -> medium;
        X >= 20 -> large;
        true -> small
    end.

flush() ->
    receive
        stop -> ok;
        _ -> flush()
    after 0 ->
        Known = is_atom(node()) andalso node() =/= nonode@nohost orelse false,
        Known
    end.

'quoted name'() ->
    case catch flush() of
        {'EXIT', _} -> failed;

        Other -> Other
    end.
