create or replace temp table chosen as
select key, kind, changed
from "contact"."change_set"
where key not in (select key from tried)
  and key not in (select key from "contact"."reject" where resting)
  and key not in (select key from "contact"."deferred")
  and key not in (select key from main.privacy_hold)
limit $limit;

insert into change_window
select n.key, n.kind, n.changed, d."firstName"
from chosen as n
left join "contact"."desired" as d on d."externalId" = n.key and n.kind <> 'delete';

insert into tried select key from chosen;
