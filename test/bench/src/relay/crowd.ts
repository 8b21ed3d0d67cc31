/**
 * `crowd SPLICES`: fills the table of the BPF data path of this namespace with copies of a splice that is there. Says
 * how many entries there are.
 */
import { CrowdedTable } from "@isthmus/datapath/testing";

const table = await CrowdedTable.find();
table.grow(Number(process.argv[2]));
process.stdout.write(`${table.entries}\n`);
