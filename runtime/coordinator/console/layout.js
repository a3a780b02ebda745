// Where the vertices of a graph are drawn, and the ways between them. Pure.
//
// Layers from left to right: a vertex stands one layer behind the last of those that it reads from. An edge
// over several layers gets a place in each of those between, so that it goes around what stands there.

export const CARD = { width: 256, gapX: 150, gapY: 28, lane: 26 };

/**
 * Places vertices (`{id, height}`) with edges between them (`{from, to}` by id, not to themselves).
 * Returns `{width, height, places: Map(id → {x, y, width, height}), ways: [[{x, y}…] by edge]}`.
 */
export function layout(vertices, edges) {
  const layerOf = layers(vertices, edges);
  const columns = [];
  const cells = new Map();
  const add = (id, layer, height) => {
    const cell = { id, layer, height, before: [], after: [], y: 0 };
    (columns[layer] ??= []).push(cell);
    cells.set(id, cell);
    return cell;
  };
  for (const { id, height } of vertices) add(id, layerOf.get(id), height);
  const chains = edges.map(({ from, to }, index) => {
    const chain = [cells.get(from)];
    for (let layer = layerOf.get(from) + 1; layer < layerOf.get(to); layer += 1) {
      chain.push(add(`way ${index} ${layer}`, layer, CARD.lane));
    }
    chain.push(cells.get(to));
    for (let step = 1; step < chain.length; step += 1) {
      chain[step - 1].after.push(chain[step]);
      chain[step].before.push(chain[step - 1]);
    }
    return chain;
  });
  order(columns);
  const height = position(columns);
  const places = new Map(vertices.map(({ id }) => {
    const cell = cells.get(id);
    return [id, { x: cell.layer * (CARD.width + CARD.gapX), y: cell.y, width: CARD.width, height: cell.height }];
  }));
  const width = columns.length * (CARD.width + CARD.gapX) - CARD.gapX;
  return { width, height, places, ways: chains.map(way) };
}

/** The layer of every vertex: the longest way to it from one that reads from none. */
function layers(vertices, edges) {
  const layerOf = new Map(vertices.map(({ id }) => [id, 0]));
  // A graph of n vertices has no way that is longer than n.
  for (let round = 0; round < vertices.length; round += 1) {
    let moved = false;
    for (const { from, to } of edges) {
      if (layerOf.get(to) <= layerOf.get(from)) {
        layerOf.set(to, layerOf.get(from) + 1);
        moved = true;
      }
    }
    if (!moved) break;
  }
  return layerOf;
}

/** Orders the cells of each column by where those are that they are connected with. */
function order(columns) {
  const rank = (column) => column.forEach((cell, index) => { cell.rank = index; });
  columns.forEach(rank);
  const mean = (cells, otherwise) =>
    cells.length ? cells.reduce((sum, cell) => sum + cell.rank, 0) / cells.length : otherwise;
  for (let sweep = 0; sweep < 4; sweep += 1) {
    const forward = sweep % 2 === 0;
    for (const column of forward ? columns : [...columns].reverse()) {
      const wanted = new Map(column.map((cell) => [cell, mean(forward ? cell.before : cell.after, cell.rank)]));
      column.sort((a, b) => wanted.get(a) - wanted.get(b) || a.rank - b.rank);
      rank(column);
    }
  }
}

/** Gives every cell its height on the page, near those it reads from. Returns the height of all. */
function position(columns) {
  const tall = (column) => column.reduce((sum, cell) => sum + cell.height + CARD.gapY, -CARD.gapY);
  const highest = Math.max(0, ...columns.map(tall));
  const middle = (cell) => cell.y + cell.height / 2;
  for (const column of columns) {
    let top = (highest - tall(column)) / 2;
    const wanted = column.map((cell) => {
      const alone = top;
      top += cell.height + CARD.gapY;
      if (cell.before.length === 0) return alone;
      return cell.before.reduce((sum, one) => sum + middle(one), 0) / cell.before.length - cell.height / 2;
    });
    spread(column, wanted);
  }
  const first = Math.min(...columns.flat().map((cell) => cell.y));
  for (const cell of columns.flat()) cell.y -= first;
  return Math.max(...columns.flat().map((cell) => cell.y + cell.height));
}

/** Puts the cells of a column as near to where they should be as their order and their heights allow. */
function spread(column, wanted) {
  // Cells that would lie over each other become a group, which stands where they want to on average.
  const groups = [];
  column.forEach((cell, index) => {
    groups.push({ cells: [cell], sum: wanted[index], size: cell.height + CARD.gapY });
    for (;;) {
      const [above, below] = groups.slice(-2);
      if (!below || start(above) + above.size <= start(below)) break;
      // Where the first cell of the group below would be if it were the end of the one above.
      const moved = below.sum - below.cells.length * above.size;
      groups.splice(-2, 2, { cells: [...above.cells, ...below.cells], sum: above.sum + moved, size: above.size + below.size });
    }
  });
  for (const group of groups) {
    let y = start(group);
    for (const cell of group.cells) {
      cell.y = y;
      y += cell.height + CARD.gapY;
    }
  }
}

/** Where a group begins: `sum` is what its cells want, each less the heights of those before it. */
function start(group) {
  return group.sum / group.cells.length;
}

/** The points that an edge goes through. */
function way(chain) {
  const points = [];
  chain.forEach((cell, index) => {
    const x = cell.layer * (CARD.width + CARD.gapX);
    const y = cell.y + cell.height / 2;
    if (index > 0) points.push({ x, y });
    if (index < chain.length - 1) points.push({ x: x + CARD.width, y });
  });
  return points;
}

/** A way as the path of an SVG: level at every end. */
export function path(points) {
  const [first, ...rest] = points;
  let text = `M${first.x} ${first.y}`;
  let last = first;
  rest.forEach((point, index) => {
    if (index % 2 === 1) {
      text += `L${point.x} ${point.y}`;
    } else {
      const bend = (point.x - last.x) / 2;
      text += `C${last.x + bend} ${last.y} ${point.x - bend} ${point.y} ${point.x} ${point.y}`;
    }
    last = point;
  });
  return text;
}
