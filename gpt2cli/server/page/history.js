// Where one has been in the tree of versions: what undo and redo go through, edits and generations alike.

const MOST = 1000;

export class History {
  constructor(places, index = places.length - 1) {
    this.places = places;
    this.index = index;
  }

  get current() {
    return this.places[this.index];
  }

  get canUndo() {
    return this.index > 0;
  }

  get canRedo() {
    return this.index < this.places.length - 1;
  }

  visit(id) {
    if (id === this.current) return;
    this.places.splice(this.index + 1, Infinity, id);
    if (this.places.length > MOST) this.places.shift();
    this.index = this.places.length - 1;
  }

  undo() {
    if (this.canUndo) this.index--;
    return this.current;
  }

  redo() {
    if (this.canRedo) this.index++;
    return this.current;
  }
}
