create or replace temp table chosen as
select key, kind, changed
from "new_purchase"."change_set"
where key not in (select key from tried)
  and key not in (select key from "new_purchase"."reject" where resting)
  and key not in (select key from "new_purchase"."deferred")
  and key not in (select key from main.privacy_hold)
limit $limit;

insert into change_window
select n.key, n.kind, n.changed, d."cusName", d."cusChannel", d."cusQuantity", d."cusContactId"
from chosen as n
left join "new_purchase"."desired" as d on d."cusD365id" = n.key and n.kind <> 'delete';

insert into tried select key from chosen;
