defmodule Plain.Point do
  def new(x, y) do
    {x, y}
  end

  def length({x, y}) do
    if x == 0 do
      y
    else
      root(x * x + y * y)
    end
  end

  defp root(n) do
    :math.sqrt(n)
  end

  def origin?(point) do
    point == new(0, 0)
  end
end
