class Point {
  constructor(x, y) {
    this.x = x;
    this.y = y;
  }

  length() {
    return Math.sqrt(this.x * this.x + this.y * this.y);
  }

  static origin() {
    return new Point(0, 0);
  }
}

function distance(a, b) {
  if (a === b) {
    return 0;
  }
  return new Point(a.x - b.x, a.y - b.y).length();
}

function* upTo(n) {
  for (let i = 0; i < n; i++) {
    yield i;
  }
}

const half = function (n) {
  return n / 2;
};
