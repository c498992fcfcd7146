use std::fmt;

pub struct Point {
    x: f64,
    y: f64,
}

impl Point {
    pub fn new(x: f64, y: f64) -> Self {
        Point { x, y }
    }

    fn length(&self) -> f64 {
        (self.x * self.x + self.y * self.y).sqrt()
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.x, self.y)
    }
}

pub async fn distance(a: &Point, b: &Point) -> f64 {
    if a.x == b.x && a.y == b.y {
        return 0.0;
    }
    Point::new(a.x - b.x, a.y - b.y).length()
}

const fn half(n: u32) -> u32 {
    n / 2
}
