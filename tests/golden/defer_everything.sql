delete from "new_purchase"."deferred";

insert into "new_purchase"."deferred"
select c.key, 'contact', d."cusContactId"
from "new_purchase"."change_set" as c
join "new_purchase"."desired" as d on d."cusD365id" = c.key
where c.kind <> 'delete' and d."cusContactId" is not null
  and (d."cusContactId" in (select key from main.privacy_hold)
   or d."cusContactId" not in (
    select "externalId" from "contact"."mirror" union all
    select key from "contact"."change_set"
    where kind <> 'delete'
      and key not in (select key from "contact"."reject" where resting)
      and key not in (select key from "contact"."deferred")
  ));
