"""The objects of another geography than the sandbox's, by key: 50 cells of Togo, two reference cells."""

from __future__ import annotations

_GRID = "id,x,y,name,fwts,avail,date\n"

TOGO = {
    "grid/master_grid.csv": _GRID
    + "".join(f"{n},1.{n:02}25,9.9975,TG00000{n:02},5,T,\n" for n in range(10, 60)),
    "training_reference/reference_grid.csv": _GRID
    + "1,0.5,8.5,TG0000001,5,Q,\n2,0.6,8.5,TG0000002,5,I,\n",
    "training_reference/kml_data_static.csv": "kml_type,name,hint\nI,TG0000002,hint\nQ,TG0000001,\n",
    "training_reference/qaqcfields.csv": "name,category,geom_clean\nTG0000001,field,\n",
}
