# A cart, for tests.
defmodule Shop.Cart do
  @moduledoc """
  # Not a comment.

  A cart.
  """

  defstruct [:owner, items: []]
  @type t :: %__MODULE__{}
  @typep line(kind) :: {kind, integer}
  @limit 10

  defguard is_small(n) when n > 0 and n < 5

  defmacro twice(expr) do
    quote do
      unquote(expr)
      unquote(expr) # again
    end
  end

  @doc "Adds an item."
  def add(cart, item, count \\ 1)

  def add(%{items: items}, _item, _count) when length(items) > @limit do
    {:error, :full}
  end

  # Between two clauses.
  def add(cart, item, count) do
    if count > 1 && is_small(count) do
      add(%{cart | items: [item | cart.items]}, item, count - 1)
    else
      {:ok, cart}
    end
  end

  def add(cart), do: {:ok, cart}

  defp price(item) do
    case item do
      %{price: p} when p >= 0 -> p
      {:fixed, p} -> p
      _ -> 0
    end
  end

  def total(cart) do
    for item <- cart.items, price(item) > 0, reduce: 0 do
      sum -> sum + price(item)
    end
  end

  def checkout(cart, pay) do
    with {:ok, sum} <- {:ok, total(cart)},
         {:ok, ref} <- pay.(sum) do
      Enum.map(cart.items, fn
        %{price: p} -> p
        other -> other
      end)
      ref
    else
      {:error, reason} -> reason
      :timeout -> nil
    end
  rescue
    e in ArgumentError -> e.message
  catch
    :exit, _ -> :gone
  after
    :ok
  end

  def a <~> b, do: a || b
  defdelegate size(list), to: Kernel, as: :length
end

defprotocol Shop.Priced do
  def price(item)
end

defimpl Shop.Priced, for: Shop.Cart do
  def price(cart) do
    receive do
      {:price, p} -> p
      :stop -> 0
    after
      100 -> cond do
        cart.owner == nil -> 0
        true -> 1
      end
    end
  end
end
